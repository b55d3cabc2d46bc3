//! What a runtime says in the environment: the verb, and which container it is about.
//!
//! Owns which variables a verb needs. A variable that makes no sense is named, with what it has to
//! be like, under the code that the specification has for it.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::{AttachmentId, Code, Failure, Wanted};

/// A call, as its verb needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// ADD: the container is to be attached.
    Add(AttachmentId, PathBuf, PodArgs),
    /// DEL: it is not to be attached any more; its namespace may be gone.
    Del(AttachmentId),
    /// CHECK: is it attached as it was?
    Check(AttachmentId, PathBuf),
    /// GC: only those are to be attached that the configuration lists.
    Gc,
    /// STATUS: can containers be attached?
    Status,
    /// VERSION: which versions are spoken?
    Version,
}

/// What Kubernetes adds of the pod, and others of its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodArgs {
    /// The pod, as `namespace/name`.
    pub pod: Option<String>,
    /// The addresses that are chosen, `IP` and `MAC`.
    pub wanted: Wanted,
}

/// Looks up a variable.
pub type Environment<'e> = dyn Fn(&str) -> Option<OsString> + 'e;

impl Call {
    /// Reads a call.
    ///
    /// # Errors
    /// If a variable is missing or makes no sense: [`Code::Environment`].
    pub fn read(environment: &Environment<'_>) -> Result<Self, Failure> {
        let text = |name| variable(environment, name);
        let id = || {
            let (container, interface) = (text("CNI_CONTAINERID")?, text("CNI_IFNAME")?);
            check_container(&container)?;
            check_interface(&interface)?;
            Ok::<_, Failure>(AttachmentId { container, interface })
        };
        let namespace = || text("CNI_NETNS").map(PathBuf::from);
        match &*text("CNI_COMMAND")? {
            "ADD" => Ok(Self::Add(id()?, namespace()?, PodArgs::read(environment)?)),
            "DEL" => Ok(Self::Del(id()?)),
            "CHECK" => Ok(Self::Check(id()?, namespace()?)),
            "GC" => Ok(Self::Gc),
            "STATUS" => Ok(Self::Status),
            "VERSION" => Ok(Self::Version),
            other => Err(bad("CNI_COMMAND", format!("`{other}` is none of {VERBS}"))),
        }
    }
}

impl PodArgs {
    /// Reads `CNI_ARGS`, `KEY=VALUE;KEY=VALUE`. What others add is theirs.
    fn read(environment: &Environment<'_>) -> Result<Self, Failure> {
        let Some(args) = environment(ARGS) else { return Ok(Self::default()) };
        let args = args.into_string().map_err(|_| bad(ARGS, NO_TEXT))?;
        let (mut namespace, mut name) = (None, None);
        let mut wanted = Wanted::default();
        for pair in args.split(';').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("K8S_POD_NAMESPACE", value)) => namespace = Some(value),
                Some(("K8S_POD_NAME", value)) => name = Some(value),
                Some(("IP", value)) => {
                    let ips = value.split(',').map(str::parse).collect::<Result<_, _>>();
                    wanted.ips = ips.map_err(|error: String| bad(ARGS, error))?;
                }
                Some(("MAC", value)) => {
                    wanted.mac = Some(value.parse().map_err(|error: String| bad(ARGS, error))?);
                }
                Some(_) => {}
                None => return Err(bad(ARGS, format!("`{pair}` is no `KEY=VALUE`"))),
            }
        }
        let is_name = |text: &&str| !text.is_empty() && !text.contains('/');
        let both = namespace.filter(is_name).zip(name.filter(is_name));
        Ok(Self { pod: both.map(|(namespace, name)| format!("{namespace}/{name}")), wanted })
    }
}

fn variable(environment: &Environment<'_>, name: &str) -> Result<String, Failure> {
    let value = environment(name).filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| bad(name, "it is missing"))?;
    value.into_string().map_err(|_| bad(name, NO_TEXT))
}

fn check_container(id: &str) -> Result<(), Failure> {
    let first = id.starts_with(|first: char| first.is_ascii_alphanumeric());
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if first && id.bytes().all(rest) {
        return Ok(());
    }
    let rule = "has to be letters, digits, `_`, `.` and `-`, with a letter or digit at the start";
    Err(bad("CNI_CONTAINERID", format!("`{id}` {rule}")))
}

/// What the kernel takes for a link's name (dev_valid_name in net/core/dev.c).
fn check_interface(name: &str) -> Result<(), Failure> {
    let forbidden = |character: char| character.is_whitespace() || "/:".contains(character);
    let is_folder = [".", ".."].contains(&name);
    if name.len() <= MOST_OF_A_LINK && !is_folder && !name.contains(forbidden) {
        return Ok(());
    }
    let rule = "has to be at most 15 characters, none of them a space, `/` or `:`";
    Err(bad("CNI_IFNAME", format!("`{name}` {rule}")))
}

fn bad(variable: &str, reason: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Environment, format!("the environment variable {variable}"), reason)
}

const VERBS: &str = "ADD, DEL, CHECK, GC, STATUS and VERSION";
const ARGS: &str = "CNI_ARGS";
const NO_TEXT: &str = "it is no UTF-8";
const MOST_OF_A_LINK: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Call, Failure> {
        let value = |name: &str| variables.iter().rev().find(|(known, _)| *known == name);
        Call::read(&|name| value(name).map(|(_, value)| OsString::from(value)))
    }

    const WHOLE: [(&str, &str); 5] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "0123abc"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=7"),
    ];

    #[test]
    fn a_call_says_which_container_of_which_pod_it_is_about() {
        let id = AttachmentId { container: "0123abc".into(), interface: "eth0".into() };
        let pod = PodArgs { pod: Some("shop/web".into()), ..PodArgs::default() };
        let namespace = PathBuf::from("/run/netns/x");
        assert_eq!(read(&WHOLE), Ok(Call::Add(id.clone(), namespace.clone(), pod)));
        let with = |verb| [&WHOLE[..], &[("CNI_COMMAND", verb)]].concat();
        assert_eq!(read(&with("DEL")), Ok(Call::Del(id.clone())));
        assert_eq!(read(&with("CHECK")), Ok(Call::Check(id, namespace)));
        for (verb, call) in [("GC", Call::Gc), ("STATUS", Call::Status), ("VERSION", Call::Version)]
        {
            assert_eq!(read(&[("CNI_COMMAND", verb)]), Ok(call));
        }
        let alone = [&WHOLE[..], &[("CNI_ARGS", "K8S_POD_NAME=web")]].concat();
        assert!(matches!(read(&alone), Ok(Call::Add(_, _, PodArgs { pod: None, .. }))));
    }

    #[test]
    fn c8_arguments_may_choose_addresses() {
        let with = |args| [&WHOLE[..], &[("CNI_ARGS", args)]].concat();
        let call = read(&with("IP=10.1.0.9,fd01::9/64;MAC=0a:58:0a:01:00:09"));
        let Ok(Call::Add(_, _, PodArgs { wanted, .. })) = call else { panic!("{call:?}") };
        let ips: Vec<_> = wanted.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.1.0.9", "fd01::9"]);
        assert_eq!(wanted.mac.map(|mac| mac.to_string()).as_deref(), Some("0a:58:0a:01:00:09"));
        for wrong in ["IP=", "IP=10.1.0.256", "MAC=01:00:5e:00:00:01"] {
            let failure = read(&with(wrong)).unwrap_err();
            assert_eq!(failure.code, Code::Environment, "{wrong}");
        }
    }

    #[test]
    fn c3_a_variable_that_is_missing_or_makes_no_sense_is_named_with_code_4() {
        for missing in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            let failure = read(&[&WHOLE[..], &[(missing, "")]].concat()).unwrap_err();
            assert_eq!(failure.code, Code::Environment);
            assert!(failure.message.ends_with(missing), "{failure:?}");
        }
        for (variable, value) in [
            ("CNI_COMMAND", "add"),
            ("CNI_CONTAINERID", "../x"),
            ("CNI_CONTAINERID", "-x"),
            ("CNI_CONTAINERID", "a:b"),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "a b"),
            ("CNI_IFNAME", "sixteen-letters-"),
            ("CNI_ARGS", "K8S_POD_NAME"),
        ] {
            let failure = read(&[&WHOLE[..], &[(variable, value)]].concat()).unwrap_err();
            assert_eq!(failure.code, Code::Environment, "{variable}={value}");
            assert!(failure.message.ends_with(variable), "{failure:?}");
        }
    }

    #[test]
    fn c5_del_does_not_need_the_namespace() {
        let gone = [&WHOLE[..], &[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]].concat();
        assert!(matches!(read(&gone), Ok(Call::Del(_))));
    }
}
