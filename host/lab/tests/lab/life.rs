//! A lab comes and goes as a whole.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use millrace_control::PodNetwork;
use millrace_lab::{AgentCommand, Lab, LabError, LabName, Topology};
use millrace_netns::unique_name;

use crate::ground::{
    Ground, Guard, await_some, command, may_run, namespaces, nodes, pings, pod, script, settings,
    with,
};
use crate::{plane, roles};

/// What a lab was made of, to see that nothing is left.
fn assert_gone(lab: &Lab) {
    let state = lab.state();
    assert_eq!(namespaces(&state.name), [""; 0]);
    assert!(!state.name.folder().exists());
    assert!(!Lab::list().contains(&state.name));
    for program in &state.programs {
        assert!(!program.process.is_running(), "{:?}", program.role);
    }
}

#[test]
fn a_lab_is_its_namespaces_programs_and_a_folder_and_goes_with_all_of_them() {
    let pods = [pod("web", "a"), pod("shop/web.0", "b")];
    let Some(ground) = Ground::new("whole", with(nodes(2), pods), Topology::Flat) else { return };
    let name = ground.state().name.clone();
    let wanted = ["node.a", "node.b", "outside", "pod.default.web", "pod.shop.web.0", "switch"];
    assert_eq!(namespaces(&name), wanted.map(|of| format!("{}{of}", name.prefix())));
    assert!(Lab::list().contains(&name));

    // any process can open it, and take it down
    let lab = Lab::open(&name).unwrap();
    assert_eq!(lab.state(), ground.state());
    assert_eq!(lab.state().programs.len(), 2);
    assert!(lab.state().programs.iter().all(|program| program.process.is_running()));
    Lab::down(&name).unwrap();
    assert_gone(&lab);
}

#[test]
fn a_lab_that_is_not_up_is_answered_with_those_that_are() {
    let Some(ground) = Ground::new("there", nodes(1), Topology::Flat) else { return };
    let other: LabName = "not-there".parse().unwrap();
    for error in [Lab::open(&other).unwrap_err(), Lab::down(&other).unwrap_err()] {
        assert!(matches!(error, LabError::NotUp { .. }), "{error}");
        assert!(error.to_string().contains(&format!("`{}`", ground.state().name)), "{error}");
    }
}

#[test]
fn a_lab_that_is_up_is_not_made_again_and_left_alone() {
    let Some(ground) = Ground::new("twice", with(nodes(1), [pod("p", "a")]), Topology::Flat) else {
        return;
    };
    let mut settings = settings("twice", Topology::Flat);
    settings.name = ground.state().name.clone();
    let error = Lab::up(nodes(1), &settings, None).unwrap_err();
    assert!(matches!(error, LabError::UpAlready { .. }), "{error}");
    assert_eq!(Lab::open(&settings.name).unwrap().state(), ground.state());
    assert!(ground.state().programs[0].process.is_running());
}

#[test]
fn two_labs_side_by_side_do_not_know_each_other() {
    let world = || with(nodes(2), [pod("web", "a")]);
    let Some(one) = Ground::new("side", world(), Topology::Flat) else { return };
    let other = Ground::new("side", world(), Topology::Routed).unwrap();
    assert_eq!(one.state().nodes[0].addresses, other.state().nodes[0].addresses);
    Lab::down(&one.state().name).unwrap();
    assert_gone(&one);
    assert!(pings(&other.node(0), other.state().nodes[1].addresses[0]));
    assert!(other.state().programs[0].process.is_running());
}

#[test]
fn a_lab_whose_maker_is_killed_at_any_moment_is_taken_down_whole() {
    let Some(()) = may_run() else { return };
    // two nodes, switch, outside host and four pods, each with a program
    for (made, running) in [(0, 0), (1, 0), (3, 0), (4, 0), (5, 0), (5, 1), (7, 2), (8, 3), (8, 4)]
    {
        let name: LabName = unique_name("killed").parse().unwrap();
        let _guard = Guard(name.clone());
        let mut words = roles::command(roles::MAKER);
        words.push(name.to_string().into());
        let mut maker = command(words).stdout(Stdio::null()).spawn().unwrap();
        let programs = || match Lab::open(&name) {
            Ok(lab) => lab.state().programs.clone(),
            Err(_) => Vec::new(),
        };
        await_some("the lab is not made", || {
            let enough = namespaces(&name).len() >= made && programs().len() >= running;
            (enough && name.folder().exists()).then_some(())
        });
        maker.kill().unwrap();
        maker.wait().unwrap();

        let (programs, inodes) = (programs(), inodes(&name));
        Lab::down(&name).unwrap();
        assert_eq!(namespaces(&name), [""; 0]);
        assert!(!name.folder().exists());
        assert!(programs.iter().all(|program| !program.process.is_running()));
        // one that was still at its gate goes by itself
        await_some("somebody is left in the lab", || (!is_inhabited(&inodes)).then_some(()));
    }
}

/// What the kernel knows the lab's namespaces by.
fn inodes(lab: &LabName) -> Vec<u64> {
    let path = |name: String| Path::new("/run/netns").join(name);
    let inode = |name| fs::metadata(path(name)).ok().map(|metadata| metadata.ino());
    namespaces(lab).into_iter().filter_map(inode).collect()
}

/// Whether any process is in one of these network namespaces.
fn is_inhabited(inodes: &[u64]) -> bool {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let mut namespaces = processes.filter_map(|process| fs::metadata(process.join("ns/net")).ok());
    namespaces.any(|namespace| inodes.contains(&namespace.ino()))
}

#[test]
fn a_name_that_was_only_reserved_when_the_maker_was_killed_goes_too() {
    let Some(ground) = Ground::new("reserved", nodes(1), Topology::Flat) else { return };
    let name = &ground.state().name;
    fs::write(format!("/run/netns/{}pod.default.p", name.prefix()), "").unwrap();
    Lab::down(name).unwrap();
    assert_gone(&ground);
}

#[test]
fn a_lab_that_cannot_be_made_is_taken_down_with_the_reason_told() {
    let Some(()) = may_run() else { return };
    let settings = settings("half", Topology::Flat);
    let _guard = Guard(settings.name.clone());
    let world = || with(nodes(2), [pod("p", "a"), pod("unwanted", "b")]);
    let gone = |error: LabError| {
        assert_eq!(namespaces(&settings.name), [""; 0]);
        assert!(!settings.name.folder().exists());
        error.to_string()
    };

    let error = gone(Lab::up(world(), &settings, Some(&plane::command)).unwrap_err());
    let wanted = "attaching pod default/unwanted on node `b`: it is not wanted here";
    assert_eq!(error, wanted);

    let deadly = with(nodes(1), [pod("deadly", "a")]);
    let error = gone(Lab::up(deadly, &settings, Some(&plane::command)).unwrap_err());
    let wanted = "the agent of node `a` has broken off while it was asked to attach a pod:\n";
    assert!(error.starts_with(wanted) && error.ends_with("this was too much"), "{error}");

    let last_words = |_: &_| AgentCommand {
        command: ["sh", "-c", "echo no filters >&2; exit 1"].map(Into::into).into(),
        environment: Vec::new(),
    };
    let error = gone(Lab::up(world(), &settings, Some(&last_words)).unwrap_err());
    assert_eq!(error, "the agent of node `a` has ended:\nno filters");

    let nowhere = with(nodes(1), [pod("p", "z")]);
    let error = gone(Lab::up(nowhere, &settings, None).unwrap_err());
    assert_eq!(error, "pod default/p: there is no node `z`");
}

#[test]
fn a_program_that_is_not_there_is_seen_to_have_ended_with_its_reason() {
    let mut broken = pod("broken", "a");
    broken.containers = vec![script("none", "exec no-such-program")];
    let Some(ground) = Ground::new("broken", with(nodes(1), [broken]), Topology::Flat) else {
        return;
    };
    let program = &ground.state().programs[0];
    await_some("it runs", || (!program.process.is_running()).then_some(()));
    assert!(program.last_words().contains("no-such-program"), "{}", program.last_words());
}

#[test]
fn pods_are_spread_and_pods_of_the_host_network_are_where_their_node_is() {
    let mut pods = ["p", "q", "r"].map(|name| pod(name, "a"));
    pods.iter_mut().for_each(|pod| pod.node = None);
    pods[2].network = PodNetwork::Host;
    let Some(ground) = Ground::new("spread", with(nodes(2), pods), Topology::Flat) else { return };
    let state = ground.state();
    let nodes: Vec<_> = state.pods.iter().map(|pod| pod.node.as_str()).collect();
    assert_eq!(nodes, ["a", "b", "a"]);
    assert_eq!(state.pods[2].namespace, state.nodes[0].namespace);
    assert_eq!(state.pods[2].addresses, state.nodes[0].addresses);
}
