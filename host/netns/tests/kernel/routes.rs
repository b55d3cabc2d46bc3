use std::net::IpAddr;

use millrace_netns::{Netlink, NetlinkError, Route, RouteKind, RouteProtocol, RouteTable, Scope};

use crate::ground::{Pair, network};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The one route of the table for this destination.
fn listed(netlink: &Netlink, route: &Route) -> Route {
    let mut found = netlink.routes(route.table).unwrap();
    found.retain(|candidate| candidate.destination == route.destination);
    let [found] = found.try_into().unwrap();
    found
}

#[test]
fn ipv4_routes_of_every_kind_are_listed_as_they_were_added() {
    let Some(pair) = Pair::new("routes4") else { return };
    let netlink = pair.left.netlink().unwrap();
    let routes = [
        Route::to(network("10.20.0.0/16")).link("eth0"),
        Route::to(network("10.21.0.0/16")).via(ip("10.1.0.2")).link("eth0"),
        Route::to(network("10.22.0.0/16")).via(ip("10.1.0.2")).link("eth0").mtu(1400).metric(7),
        Route::to(network("10.23.0.0/16")).via(ip("172.16.0.1")).link("eth0").onlink(),
        Route::to(network("10.24.0.0/16")).link("eth0").source(ip("10.1.0.1")),
        Route::to(network("10.25.0.0/16")).link("eth0").protocol(RouteProtocol(99)),
        Route::to(network("10.26.0.0/16")).link("eth0").scope(Scope::Universe),
        Route::to(network("10.27.0.0/16")).via(ip("fd01::2")).link("eth0"),
        Route::to(network("10.28.0.0/16")).link("eth0").table(RouteTable(100)),
        Route::to(network("10.29.0.0/16")).link("eth0").table(RouteTable(1000)),
        Route::to(network("0.0.0.0/0")).via(ip("10.1.0.2")).link("eth0"),
        Route::blackhole(network("10.30.0.0/16")),
        Route::unreachable(network("10.31.0.0/16")),
        Route::prohibit(network("10.32.0.0/16")),
    ];
    for route in &routes {
        netlink.add_route(route).unwrap();
        assert_eq!(&listed(&netlink, route), route);
    }
    for route in &routes {
        netlink.remove_route(route).unwrap();
        let left = netlink.routes(route.table).unwrap();
        assert!(left.iter().all(|other| other.destination != route.destination), "{left:?}");
    }
}

#[test]
fn ipv6_routes_of_every_kind_are_listed_as_they_were_added() {
    let Some(pair) = Pair::new("routes6") else { return };
    let netlink = pair.left.netlink().unwrap();
    let routes = [
        Route::to(network("fd20::/32")).link("eth0"),
        Route::to(network("fd21::/32")).via(ip("fd01::2")).link("eth0").mtu(1400),
        Route::to(network("fd22::/32")).via(ip("fd77::1")).link("eth0").onlink(),
        Route::to(network("fd23::/32")).link("eth0").source(ip("fd01::1")),
        Route::to(network("fd24::/32")).link("eth0").table(RouteTable(1000)),
        Route::to(network("::/0")).via(ip("fd01::2")).link("eth0"),
        Route::blackhole(network("fd30::/32")),
        Route::unreachable(network("fd31::/32")),
        Route::prohibit(network("fd32::/32")),
    ];
    for route in &routes {
        netlink.add_route(route).unwrap();
        // IPv6 has no scopes, and always a metric
        let expected = Route { scope: Scope::Universe, metric: Some(1024), ..route.clone() };
        assert_eq!(listed(&netlink, route), expected);
    }
    for route in &routes {
        netlink.remove_route(&listed(&netlink, route)).unwrap();
        let left = netlink.routes(route.table).unwrap();
        assert!(left.iter().all(|other| other.destination != route.destination), "{left:?}");
    }
}

#[test]
fn host_bits_of_a_destination_are_ignored() {
    let Some(pair) = Pair::new("hostbits") else { return };
    let netlink = pair.left.netlink().unwrap();
    netlink.add_route(&Route::to(network("10.40.1.2/16")).link("eth0")).unwrap();
    let routes = netlink.routes(RouteTable::MAIN).unwrap();
    assert!(routes.iter().any(|route| route.destination == network("10.40.0.0/16")));
}

#[test]
fn a_route_is_replaced_only_on_request() {
    let Some(pair) = Pair::new("replace") else { return };
    let netlink = pair.left.netlink().unwrap();
    for (destination, gateway) in [("10.50.0.0/16", "10.1.0.2"), ("fd50::/32", "fd01::2")] {
        let direct = Route::to(network(destination)).link("eth0").metric(5);
        let through = direct.clone().via(ip(gateway));
        netlink.add_route(&direct).unwrap();
        let again = netlink.add_route(&through).unwrap_err();
        assert!(matches!(again, NetlinkError::Exists { .. }), "{again}");
        assert_eq!(listed(&netlink, &direct).gateway, None);
        netlink.replace_route(&through).unwrap();
        assert_eq!(listed(&netlink, &direct).gateway, Some(ip(gateway)));
    }
}

#[test]
fn the_kernels_own_routes_are_in_the_local_table() {
    let Some(pair) = Pair::new("local") else { return };
    let routes = pair.left.netlink().unwrap().routes(RouteTable::LOCAL).unwrap();
    let own = routes.iter().find(|route| route.destination == network("10.1.0.1/32")).unwrap();
    assert_eq!((own.kind, own.scope), (RouteKind::Local, Scope::Host));
    assert_eq!(own.protocol, RouteProtocol::KERNEL);
}

#[test]
fn what_is_wrong_with_a_route_is_said_with_a_remedy() {
    let Some(pair) = Pair::new("wrong") else { return };
    let netlink = pair.left.netlink().unwrap();
    let destination = network("10.60.0.0/16");

    let gone = netlink.remove_route(&Route::to(destination)).unwrap_err();
    assert_eq!(gone.to_string(), "removing route to 10.60.0.0/16: there is none");

    let astray = netlink.add_route(&Route::to(destination).via(ip("172.16.0.1"))).unwrap_err();
    let text = astray.to_string();
    assert!(text.starts_with("adding route to 10.60.0.0/16 via 172.16.0.1: "), "{text}");
    assert!(text.contains("`onlink`"), "{text}");

    let mixed = netlink.add_route(&Route::to(network("fd60::/32")).via(ip("10.1.0.2")));
    assert!(matches!(mixed, Err(NetlinkError::MixedFamilies { .. })), "{mixed:?}");

    let nowhere = netlink.add_route(&Route::to(destination).link("eth7"));
    assert!(matches!(nowhere, Err(NetlinkError::NoSuchLink { .. })), "{nowhere:?}");
}
