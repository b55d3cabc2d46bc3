//! What runs in a pod.
//!
//! Images are not known here. A container runs its command, a program of this machine; one without
//! runs the lab's [server](crate::server), on the ports that it states. The first of those in a
//! pod serves the lab's own ports, too, where no container claims them.

use std::collections::BTreeSet;
use std::ffi::OsString;

use millrace_control::{Container, Pod, Protocol};

use crate::server::Service;

/// The programs of a pod's containers, in their order, with their arguments.
pub(crate) fn programs(pod: &Pod, server: &[OsString]) -> Vec<Vec<OsString>> {
    let mut own = unclaimed(pod);
    let program = |container: &Container| {
        if !container.command.is_empty() {
            return container.command.iter().map(OsString::from).collect();
        }
        let mut services = std::mem::take(&mut own);
        services.extend(container.ports.iter().filter_map(|port| stated(port.protocol, port.port)));
        let arguments = services.iter().map(Service::to_string);
        let arguments = [pod.name.to_string()].into_iter().chain(arguments).map(OsString::from);
        server.iter().cloned().chain(arguments).collect()
    };
    pod.containers.iter().map(program).collect()
}

/// The lab's own services, without those that a container states or may open itself.
fn unclaimed(pod: &Pod) -> BTreeSet<Service> {
    let claimed = |service: &Service| {
        let ports = pod.containers.iter().flat_map(|container| &container.ports);
        ports.into_iter().any(|it| (it.protocol, it.port) == (service.protocol(), service.port()))
    };
    Service::OWN.into_iter().filter(|service| !claimed(service)).collect()
}

/// What is served on a port that a container states. SCTP is not.
fn stated(protocol: Protocol, port: u16) -> Option<Service> {
    match protocol {
        Protocol::Tcp => Some(Service::Http(port)),
        Protocol::Udp => Some(Service::UdpEcho(port)),
        Protocol::Sctp => None,
    }
}

#[cfg(test)]
mod tests {
    use millrace_control::{ContainerPort, PodName};

    use super::*;

    fn container(command: &[&str], ports: &[(Protocol, u16)]) -> Container {
        let port =
            |&(protocol, port): &(_, _)| ContainerPort { name: None, protocol, port, host: None };
        Container {
            name: "c".to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ports: ports.iter().map(port).collect(),
        }
    }

    fn lines(containers: &[Container]) -> Vec<String> {
        let pod = Pod {
            name: PodName::new("shop", "web"),
            labels: <_>::default(),
            node: None,
            network: <_>::default(),
            bandwidth: <_>::default(),
            weight: <_>::default(),
            containers: containers.to_vec(),
            status: <_>::default(),
        };
        let programs = programs(&pod, &["lab".into(), "server".into()]);
        let line = |words: Vec<OsString>| words.join(" ".as_ref()).into_string().unwrap();
        programs.into_iter().map(line).collect()
    }

    #[test]
    fn a_container_runs_its_command_or_the_server() {
        let containers = [container(&["sleep", "9"], &[]), container(&[], &[])];
        let server = "lab server shop/web echo:7 udp:7 http:8080";
        assert_eq!(lines(&containers), ["sleep 9", server]);
    }

    #[test]
    fn of_two_servers_the_first_has_the_ports_of_the_lab_and_both_those_they_state() {
        let first = container(&[], &[(Protocol::Tcp, 80), (Protocol::Sctp, 9)]);
        let second = container(&[], &[(Protocol::Udp, 53)]);
        let wanted =
            ["lab server shop/web echo:7 udp:7 http:80 http:8080", "lab server shop/web udp:53"];
        assert_eq!(lines(&[first, second]), wanted);
    }

    #[test]
    fn a_port_that_a_container_states_is_nobody_elses() {
        let server = container(&[], &[(Protocol::Udp, 8080)]);
        let own = container(&["nginx"], &[(Protocol::Tcp, 8080), (Protocol::Tcp, 7)]);
        assert_eq!(lines(&[server, own]), ["lab server shop/web udp:7 udp:8080", "nginx"]);
    }
}
