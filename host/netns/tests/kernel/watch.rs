use std::cell::Cell;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use millrace_netns::{Link, LinkEvent, LinkWatch, Route, RouteWatch, VethSpec};

use crate::ground::namespace;

/// Far beyond what an event takes; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for the first event that `wanted` makes something of.
fn await_event<T>(watch: &mut LinkWatch, wanted: impl Fn(LinkEvent) -> Option<T>) -> T {
    loop {
        let event = watch.next_within(PATIENCE).unwrap().expect("an event in time");
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

fn await_change(watch: &mut LinkWatch, name: &str, wanted: impl Fn(&Link, &Link) -> bool) -> Link {
    await_event(watch, |event| match event {
        LinkEvent::Changed { was, now } if now.name == name && wanted(&was, &now) => Some(now),
        _ => None,
    })
}

#[test]
fn a_watch_sees_a_link_go_down_and_up_change_vanish_and_return() {
    let Some(namespace) = namespace("watch") else { return };
    let netlink = namespace.netlink().unwrap();
    let spec = VethSpec::new("eth0", "peer0");
    let made = netlink.add_veth(&spec).unwrap();
    netlink.set_up("peer0").unwrap();
    netlink.set_up("eth0").unwrap();
    let mut watch = namespace.watch_links().unwrap();
    assert!(watch.links().any(|link| link.index == made.index && link.up));

    netlink.set_down("eth0").unwrap();
    await_change(&mut watch, "eth0", |was, now| was.up && !now.up);
    netlink.set_up("eth0").unwrap();
    await_change(&mut watch, "eth0", |_, now| now.up && now.carrier);
    netlink.set_mtu("eth0", 1400).unwrap();
    let changed = await_change(&mut watch, "eth0", |was, now| was.mtu == 1500 && now.mtu == 1400);
    assert_eq!(changed.index, made.index);

    netlink.delete_link("eth0").unwrap();
    let vanished = await_event(&mut watch, |event| match event {
        LinkEvent::Vanished(link) if link.name == "eth0" => Some(link),
        _ => None,
    });
    assert_eq!(vanished.index, made.index);

    let returned = netlink.add_veth(&spec).unwrap();
    let appeared = await_event(&mut watch, |event| match event {
        LinkEvent::Appeared(link) if link.name == "eth0" => Some(link),
        _ => None,
    });
    assert_eq!(appeared.index, returned.index);
    assert_ne!(appeared.index, vanished.index);
    assert!(watch.links().any(|link| link.index == returned.index));
    assert!(watch.links().all(|link| link.index != vanished.index));
}

#[test]
fn a_link_that_moves_away_vanishes_here_and_appears_there() {
    let (Some(here), Some(there)) = (namespace("away"), namespace("away")) else { return };
    let netlink = here.netlink().unwrap();
    netlink.add_veth(&VethSpec::new("stays", "moves")).unwrap();
    let mut watches = [here.watch_links().unwrap(), there.watch_links().unwrap()];
    netlink.move_to("moves", &there).unwrap();
    await_event(&mut watches[0], |event| match event {
        LinkEvent::Vanished(link) if link.name == "moves" => Some(()),
        _ => None,
    });
    await_event(&mut watches[1], |event| match event {
        LinkEvent::Appeared(link) if link.name == "moves" => Some(()),
        _ => None,
    });
}

#[test]
fn leaving_a_bridge_is_a_change_and_not_an_end() {
    let Some(namespace) = namespace("port") else { return };
    let netlink = namespace.netlink().unwrap();
    let bridge = netlink.add_bridge("br0").unwrap();
    netlink.add_veth(&VethSpec::new("port0", "peer0")).unwrap();
    let mut watch = namespace.watch_links().unwrap();
    netlink.enslave("port0", "br0").unwrap();
    await_change(&mut watch, "port0", |_, now| now.master == Some(bridge.index));
    netlink.release("port0").unwrap();
    netlink.rename("br0", "br1").unwrap();
    // the rename comes last: by then the release has been seen, and nothing has ended
    await_event(&mut watch, |event| {
        assert!(!matches!(&event, LinkEvent::Vanished(_)), "{event:?}");
        matches!(&event, LinkEvent::Changed { now, .. } if now.name == "br1").then_some(())
    });
    assert!(watch.links().any(|link| link.name == "port0" && link.master.is_none()));
}

#[test]
fn a_watch_that_fell_behind_catches_up() {
    let Some(namespace) = namespace("behind") else { return };
    let netlink = namespace.netlink().unwrap();
    netlink.add_veth(&VethSpec::new("eth0", "peer0")).unwrap();
    let mut watch = namespace.watch_links().unwrap();
    // each change is a datagram, and far fewer fit the queue
    let changes = 1000..6000;
    for mtu in changes.clone() {
        netlink.set_mtu("eth0", mtu).unwrap();
    }
    netlink.delete_link("eth0").unwrap();

    let seen = Cell::new(0);
    await_event(&mut watch, |event| {
        seen.set(seen.get() + 1);
        matches!(&event, LinkEvent::Vanished(link) if link.name == "eth0").then_some(())
    });
    assert!(seen.get() < changes.len(), "nothing was lost: this has shown nothing");
    while watch.try_next().unwrap().is_some() {}
    let names: Vec<&str> = watch.links().map(|link| link.name.as_str()).collect();
    assert_eq!(names, ["lo"]);
}

#[test]
fn a_watch_that_falls_behind_again_and_again_loses_nothing() {
    let Some(namespace) = namespace("again") else { return };
    let netlink = namespace.netlink().unwrap();
    netlink.add_veth(&VethSpec::new("eth0", "peer0")).unwrap();
    let mut watch = namespace.watch_links().unwrap();
    let mut told: BTreeMap<u32, Link> = watch.links().map(|it| (it.index, it.clone())).collect();
    for round in 0..3 {
        // each change is a datagram, and far fewer fit the queue; of what comes and goes nobody hears
        let (brief, stays) = (format!("brief{round}"), format!("stays{round}"));
        let changes = 1000..5000;
        netlink.add_veth(&VethSpec::new(&brief, "peer1")).unwrap();
        for mtu in changes.clone() {
            netlink.set_mtu("eth0", mtu).unwrap();
        }
        netlink.delete_link(&brief).unwrap();
        netlink.add_veth(&VethSpec::new(&stays, &format!("peer-{round}"))).unwrap();
        let mut events = 0;
        let mut read = |watch: &mut LinkWatch| {
            while let Some(event) = watch.try_next().unwrap() {
                tell(&mut told, event);
                events += 1;
            }
        };
        // and more comes while it catches up
        std::thread::scope(|scope| {
            let changing = scope.spawn(|| {
                (1000..2000).for_each(|mtu| netlink.set_mtu(&stays, mtu).unwrap());
                netlink.rename(&stays, &format!("kept{round}")).unwrap();
            });
            while !changing.is_finished() {
                read(&mut watch);
            }
        });
        read(&mut watch);
        assert!(events < changes.len(), "nothing was lost: this has shown nothing");
        let present = netlink.links().unwrap();
        let present: BTreeMap<_, _> = present.into_iter().map(|it| (it.index, it)).collect();
        assert_eq!(told, present);
    }
}

/// Has a picture follow an event, which has to be about what is in it.
fn tell(told: &mut BTreeMap<u32, Link>, event: LinkEvent) {
    match event {
        LinkEvent::Appeared(link) => assert_eq!(told.insert(link.index, link), None),
        LinkEvent::Changed { was, now } => assert_eq!(told.insert(now.index, now), Some(was)),
        LinkEvent::Vanished(link) => assert_eq!(told.remove(&link.index), Some(link)),
    }
}

#[test]
fn a_quiet_namespace_has_no_events() {
    let Some(namespace) = namespace("quiet") else { return };
    let mut watch = namespace.watch_links().unwrap();
    assert_eq!(watch.try_next().unwrap(), None);
    assert_eq!(watch.next_within(Duration::from_millis(1)).unwrap(), None);
    assert_eq!(watch.links().count(), 1);
}

#[test]
fn a_watch_sees_that_a_link_gets_a_queue_that_limits_it() {
    let Some(namespace) = namespace("shaped") else { return };
    let netlink = namespace.netlink().unwrap();
    netlink.add_veth(&VethSpec::new("eth0", "peer0")).unwrap();
    netlink.set_up("eth0").unwrap();
    let mut watch = namespace.watch_links().unwrap();
    netlink.shape("eth0", 1_000_000).unwrap();
    await_change(&mut watch, "eth0", |was, now| !was.shaped && now.shaped);
}

/// Waits for news, and until there are no more.
fn await_news(watch: &RouteWatch) {
    let start = Instant::now();
    while !watch.has_news().unwrap() {
        assert!(start.elapsed() < PATIENCE, "news in time");
        thread::sleep(Duration::from_millis(1));
    }
    // one change is told in several messages
    while watch.has_news().unwrap() {
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_watch_notices_addresses_and_routes_that_come_and_go_also_without_a_word() {
    let Some(namespace) = namespace("outlook") else { return };
    let netlink = namespace.netlink().unwrap();
    let watch = namespace.watch_routes().unwrap();
    assert!(!watch.has_news().unwrap(), "what was there before is no news");
    netlink.add_veth(&VethSpec::new("eth0", "peer0")).unwrap();
    for link in ["eth0", "peer0"] {
        netlink.set_up(link).unwrap();
    }
    for (address, to, via) in
        [("192.0.2.1/24", "198.51.100.0/24", "192.0.2.9"), ("fd01::1/64", "fd02::/64", "fd01::9")]
    {
        await_news(&watch);
        netlink.add_address("eth0", address.parse().unwrap()).unwrap();
        await_news(&watch);
        let route = Route::to(to.parse().unwrap()).via(via.parse().unwrap());
        netlink.add_route(&route).unwrap();
        await_news(&watch);
        netlink.remove_route(&route).unwrap();
        await_news(&watch);
        netlink.add_route(&route).unwrap();
    }
    await_news(&watch);
    // the kernel says nothing of IPv4's routes that go with it
    netlink.set_down("eth0").unwrap();
    await_news(&watch);
    netlink.delete_link("eth0").unwrap();
    await_news(&watch);
}
