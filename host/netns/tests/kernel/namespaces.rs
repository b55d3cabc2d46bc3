use std::fs;
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use millrace_netns::{LinkKind, Namespace, NamespaceError, Netlink, VethSpec, unique_name};

use crate::ground::namespace;

/// The namespace of the calling thread, as `readlink` shows it.
fn whereabouts() -> String {
    fs::read_link("/proc/thread-self/ns/net").unwrap().display().to_string()
}

fn inside(namespace: &Namespace) -> String {
    namespace.run(whereabouts).unwrap()
}

#[test]
fn a_new_namespace_has_a_name_and_a_loopback_that_is_up() {
    let Some(namespace) = namespace("new") else { return };
    assert!(namespace.name().starts_with("mr-new-"));
    assert!(Namespace::list().contains(&namespace.name().to_owned()));
    assert_eq!(namespace.path(), Path::new("/run/netns").join(namespace.name()));

    let links = namespace.netlink().unwrap().links().unwrap();
    let [lo] = links.as_slice() else { panic!("{links:?}") };
    assert_eq!((lo.name.as_str(), &lo.kind, lo.up), ("lo", &LinkKind::Loopback, true));
}

#[test]
fn a_nameless_namespace_is_found_by_nobody_and_works_as_others_do() {
    let Some(namespace) = namespace("other") else { return };
    let names = Namespace::list();
    let nameless = Namespace::create_nameless("hidden").unwrap();
    assert!(!Namespace::list().iter().any(|name| name.contains("hidden")));
    assert!(names.contains(&namespace.name().to_owned()));
    assert_ne!(inside(&nameless), whereabouts());
    assert_eq!(inside(&Namespace::open_path(nameless.path()).unwrap()), inside(&nameless));
    namespace
        .netlink()
        .unwrap()
        .add_veth(&VethSpec::new("near", "far").peer_namespace(&nameless))
        .unwrap();
    assert_eq!(nameless.netlink().unwrap().link("far").unwrap().name, "far");
}

#[test]
fn a_dropped_namespace_takes_its_name_along() {
    let Some(namespace) = namespace("drop") else { return };
    let (name, path) = (namespace.name().to_owned(), namespace.path().to_owned());
    drop(namespace);
    assert!(!Namespace::list().contains(&name));
    assert!(!path.exists());
}

#[test]
fn a_panic_takes_the_namespaces_of_its_frames_along() {
    let Some(namespace) = namespace("unwind") else { return };
    let name = namespace.name().to_owned();
    let outcome = catch_unwind(AssertUnwindSafe(move || {
        let _owned = namespace;
        panic!("expected");
    }));
    assert!(outcome.is_err());
    assert!(!Namespace::list().contains(&name));
}

#[test]
fn a_kept_namespace_stays_until_it_is_deleted() {
    let Some(namespace) = namespace("keep") else { return };
    let (name, inode) = (namespace.name().to_owned(), inside(&namespace));
    drop(namespace.keep());

    assert_eq!(inside(&Namespace::open(&name).unwrap()), inode);
    Namespace::delete(&name).unwrap();
    assert!(!Namespace::list().contains(&name));
}

#[test]
fn a_name_that_is_taken_is_refused_and_left_alone() {
    let Some(first) = namespace("taken") else { return };
    let inode = inside(&first);
    let error = Namespace::create(first.name()).unwrap_err();
    assert!(matches!(error, NamespaceError::Exists { .. }), "{error}");
    assert!(error.to_string().contains("ip netns delete"), "{error}");
    assert_eq!(inside(&Namespace::open(first.name()).unwrap()), inode);
}

#[test]
fn a_name_that_is_a_path_is_refused() {
    for name in ["", "..", "a/b", "/run/netns/a"] {
        let error = Namespace::create(name).unwrap_err();
        assert!(matches!(error, NamespaceError::BadName { .. }), "{error}");
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let Some(namespace) = namespace("known") else { return };
    for error in
        [Namespace::open("mr-no-such").unwrap_err(), Namespace::delete("mr-no-such").unwrap_err()]
    {
        assert!(matches!(error, NamespaceError::NoSuchNamespace { .. }), "{error}");
        assert!(error.to_string().contains("`mr-no-such`"), "{error}");
        assert!(error.to_string().contains(namespace.name()), "{error}");
    }
}

#[test]
fn a_plain_file_is_no_namespace() {
    let error = Namespace::open_path("/etc/hostname").unwrap_err();
    assert!(matches!(error, NamespaceError::NotANamespace { .. }), "{error}");
}

#[test]
fn a_closure_runs_inside_and_the_caller_stays_outside() {
    let Some(namespace) = namespace("run") else { return };
    let before = whereabouts();
    assert_ne!(inside(&namespace), before);
    assert_eq!(inside(&namespace), inside(&Namespace::open(namespace.name()).unwrap()));
    assert_eq!(whereabouts(), before);
}

#[test]
fn a_panic_in_a_closure_reaches_the_caller_who_stays_outside() {
    let Some(namespace) = namespace("panic") else { return };
    let before = whereabouts();
    let panic =
        catch_unwind(AssertUnwindSafe(|| namespace.run(|| panic!("expected")))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"expected"));
    assert_eq!(whereabouts(), before);
    assert_ne!(inside(&namespace), before);
}

#[test]
fn a_socket_stays_in_the_namespace_it_was_made_in() {
    let Some(namespace) = namespace("socket") else { return };
    let bind = || UdpSocket::bind("127.0.0.1:0");
    let (server, client) =
        (namespace.run(bind).unwrap().unwrap(), namespace.run(bind).unwrap().unwrap());
    client.send_to(b"here", server.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 8];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (&b"here"[..], client.local_addr().unwrap()));

    // the same port is free elsewhere
    let Some(elsewhere) = self::namespace("socket") else { return };
    elsewhere.run(|| UdpSocket::bind(server.local_addr().unwrap())).unwrap().unwrap();
}

#[test]
fn a_command_runs_inside_and_sees_the_callers_sys() {
    let Some(namespace) = namespace("command") else { return };
    let read_link = |path: &str| {
        let output = namespace.command("readlink").arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(read_link("/proc/self/ns/net"), inside(&namespace));
    let mount_namespace = fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    assert_eq!(read_link("/proc/self/ns/mnt"), mount_namespace);
}

#[test]
fn a_command_can_outlive_the_handle_it_came_from() {
    let Some(namespace) = namespace("outlive") else { return };
    let inode = inside(&namespace);
    let mut command = namespace.command("readlink");
    drop(namespace);
    let output = command.arg("/proc/self/ns/net").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), inode);
}

#[test]
fn the_host_is_where_the_caller_is() {
    let host = Netlink::host().unwrap().links().unwrap();
    let here = Namespace::current().unwrap().netlink().unwrap().links().unwrap();
    assert!(host.iter().any(|link| link.kind == LinkKind::Loopback));
    let indexes = |links: &[millrace_netns::Link]| -> Vec<u32> {
        links.iter().filter(|link| link.kind == LinkKind::Loopback).map(|link| link.index).collect()
    };
    assert_eq!(indexes(&host), indexes(&here));
}

#[test]
fn a_namespace_is_stale_once_its_creator_let_go() {
    let tag = unique_name("stale");
    let (Some(held), Some(abandoned)) = (namespace(&tag), namespace(&tag)) else { return };
    let prefix = format!("mr-{tag}-");
    assert_eq!(Namespace::stale(&prefix).unwrap(), Vec::<String>::new());

    let name = abandoned.name().to_owned();
    drop(abandoned.keep());
    assert_eq!(Namespace::stale(&prefix).unwrap(), [name.as_str()]);
    assert_eq!(Namespace::remove_stale(&prefix).unwrap(), [name]);
    assert_eq!(Namespace::list().iter().filter(|name| name.starts_with(&prefix)).count(), 1);
    assert!(Namespace::open(held.name()).is_ok());
}

#[test]
fn a_command_that_still_runs_does_not_keep_a_namespace_from_being_stale() {
    let tag = unique_name("child");
    let Some(namespace) = namespace(&tag) else { return };
    let prefix = format!("mr-{tag}-");
    let mut child = namespace.command("sleep").arg("600").spawn().unwrap();
    drop(namespace.keep());
    let stale = Namespace::remove_stale(&prefix);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(stale.unwrap().len(), 1);
}

#[test]
fn cleaning_up_everything_is_refused() {
    let error = Namespace::remove_stale("").unwrap_err();
    assert!(matches!(error, NamespaceError::BadName { .. }), "{error}");
}
