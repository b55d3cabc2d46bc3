use millrace_netns::{Namespace, SysctlError, VethSpec};

use crate::ground::namespace;

const KEY: &str = "net.ipv6.conf.all.disable_ipv6";

#[test]
fn a_sysctl_is_set_in_one_namespace_and_no_other() {
    let (Some(here), Some(there)) = (namespace("sysctl"), namespace("sysctl")) else { return };
    let host = Namespace::current().unwrap();
    let before = host.sysctl(KEY).unwrap();
    assert_eq!(here.sysctl(KEY).unwrap(), "0");
    here.set_sysctl(KEY, "1").unwrap();
    assert_eq!(here.sysctl(KEY).unwrap(), "1");
    assert_eq!(there.sysctl(KEY).unwrap(), "0");
    assert_eq!(host.sysctl(KEY).unwrap(), before);
}

#[test]
fn a_link_with_dots_in_its_name_has_sysctls_of_its_own() {
    let Some(namespace) = namespace("dots") else { return };
    namespace.netlink().unwrap().add_veth(&VethSpec::new("eth0.1.2", "eth0")).unwrap();
    namespace.set_sysctl("net.ipv4.conf.eth0.1.2.forwarding", "1").unwrap();
    for (key, value) in [
        ("net.ipv4.conf.eth0/1/2.forwarding", "1"),
        ("net/ipv4/conf/eth0.1.2/forwarding", "1"),
        ("net.ipv4.conf.eth0.forwarding", "0"),
    ] {
        assert_eq!(namespace.sysctl(key).unwrap(), value, "{key}");
    }
}

#[test]
fn an_unknown_key_a_foreign_key_and_a_bad_value_are_told_apart() {
    let Some(namespace) = namespace("keys") else { return };
    let unknown = namespace.sysctl("net.ipv4.conf.eth7.forwarding").unwrap_err();
    assert!(matches!(unknown, SysctlError::Unknown { .. }), "{unknown}");
    assert!(unknown.to_string().contains("`net.ipv4.conf.eth7.forwarding`"), "{unknown}");
    let foreign = namespace.sysctl("kernel.hostname").unwrap_err();
    assert!(matches!(foreign, SysctlError::Foreign { .. }), "{foreign}");
    let value = namespace.set_sysctl(KEY, "maybe").unwrap_err();
    assert!(matches!(value, SysctlError::Refused { .. }), "{value}");
    assert_eq!(namespace.sysctl(KEY).unwrap(), "0");
}
