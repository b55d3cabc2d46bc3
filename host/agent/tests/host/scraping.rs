//! What Prometheus reads: every metric moves when what it counts happens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use rustix::process::Signal;

use crate::bed::{Bed, Host, another};
use crate::http;

/// Metrics that traffic does not move here, and why not.
const UNMOVED: &[(&str, &str)] = &[
    ("millrace_build_info", "it is what it is"),
    ("millrace_xdp_receive_ring_full_packets_total", "a fill ring of the same size is empty first"),
    ("millrace_xdp_invalid_descriptors_total", "a host makes none: the types of xsk see to it"),
    (
        "millrace_stage_emitted_frames_total",
        "no built-in filter sends; tests/packet has some that do",
    ),
    ("millrace_worker_uncounted_packets_total", "there are far more places than combinations here"),
    ("millrace_stage_packet_hook_total", "built-in filters only look; tests/packet has others"),
];

/// A host whose metrics are read again and again.
struct Scraped<'b> {
    host: Host<'b>,
    bed: &'b Bed,
    at: SocketAddr,
    last: Page,
    moved: BTreeSet<String>,
}

/// Samples by series, under the names of their families.
type Page = BTreeMap<String, BTreeMap<String, f64>>;

impl<'b> Scraped<'b> {
    fn start(bed: &'b Bed, flags: &[&str]) -> Self {
        let host = bed.run(&[&["--metrics=127.0.0.1:0"], flags].concat());
        let status = host.json(&["status"]);
        let at = status["metrics"].as_str().and_then(|at| at.parse().ok()).expect("an address");
        let mut this = Self { host, bed, at, last: Page::new(), moved: BTreeSet::new() };
        this.last = this.page();
        this
    }

    fn page(&self) -> Page {
        let (status, text) = http::read(&self.bed.namespace, self.at, "/metrics");
        assert_eq!(status, 200, "{text}");
        let mut page = Page::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# TYPE ") {
                family = name.split(' ').next().expect("a name").to_owned();
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').expect("a series and its value");
                let samples = page.entry(family.clone()).or_default();
                samples.insert(series.to_owned(), value.parse().expect("a number"));
            }
        }
        page
    }

    /// Reads the page, and notes what moved since the last time.
    fn scrape(&mut self) {
        let now = self.page();
        for (family, samples) in &now {
            let moves = |(series, value): (&String, &f64)| *value != self.value(series);
            if samples.iter().any(moves) {
                self.moved.insert(family.clone());
            }
        }
        self.last = now;
    }

    /// Scrapes until a series has the value, or a larger one.
    fn reaches(&mut self, series: &str, value: f64, act: impl Fn()) {
        let mut rounds = 0;
        while self.value(series) < value {
            rounds += 1;
            assert!(rounds < 1000, "{series} stays {}", self.value(series));
            act();
            self.scrape();
        }
    }

    fn value(&self, series: &str) -> f64 {
        let samples = self.last.values().find_map(|samples| samples.get(series));
        samples.copied().unwrap_or(0.0)
    }
}

#[test]
fn every_metric_moves_or_it_is_said_why_not() {
    let Some(bed) = Bed::new(2) else { return };
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let mut scraped = Scraped::start(&bed, &["--filter=dns=dns-log", "--filter=bridge"]);
    let net = bed.namespace.netlink().expect("netlink works");
    let to = |port: u16| {
        let client = a.udp(0);
        move || assert_eq!(client.send_to(b"question", (b.address, port)).ok(), Some(8))
    };

    // packets pass, and are shown to a filter
    assert!(a.pings(b));
    scraped.reaches(r#"millrace_stage_shown_packets_total{stage="dns"}"#, 1.0, to(53));
    scraped.reaches(r#"millrace_worker_flow_hits_total{worker="0"}"#, 5.0, to(9));
    let forwarded = r#"millrace_packets_total{port="veth-b",stage="bridge",fate="forwarded"}"#;
    assert!(scraped.value(forwarded) >= 1.0, "{:#?}", scraped.last);

    // a filter that may not drop fails until it is not asked any more
    let rule = r#"{"rules": [{"protocol": "udp", "port": 10}]}"#;
    let load = |arguments: &[&str]| {
        let all = [&["filter", "load"], arguments, &["--first", "--config", rule]].concat();
        scraped.host.ask(&all);
    };
    load(&["bad", "deny-list", "--grant=reject", "--on-fault=open"]);
    scraped.reaches(r#"millrace_stage_faults_total{stage="bad",class="answer"}"#, 6.0, to(10));
    scraped.reaches(r#"millrace_stage_absent_packets_total{stage="bad"}"#, 1.0, to(10));
    assert_eq!(scraped.value(r#"millrace_stage_state{stage="bad",state="ejected"}"#), 1.0);

    // another one denies, a version on trial too, and a shadow says what it would do
    let load = |arguments: &[&str]| {
        let all = [&["filter", "load"], arguments, &["--first", "--config", rule]].concat();
        scraped.host.ask(&all);
    };
    load(&["deny", "deny-list"]);
    load(&["shadow", "deny-list", "--mode=shadow"]);
    let v2 = another("deny-list", bed.folder.path()).display().to_string();
    scraped.host.ask(&["filter", "canary", "start", "deny", "99", &v2]);
    let dropped = r#"millrace_stage_canary_dropped_packets_total{stage="deny"}"#;
    scraped.reaches(dropped, 1.0, || to(10)());
    scraped.reaches(
        r#"millrace_stage_shadow_packets_total{stage="shadow",outcome="same"}"#,
        1.0,
        to(9),
    );
    let reason = r#"{port="veth-a",stage="deny",fate="dropped",reason="denied"}"#;
    assert!(scraped.value(&format!("millrace_packets_total{reason}")) >= 1.0);

    // interfaces change, and what is handed to one without anybody behind it is refused
    net.set_mtu("veth-b", 1400).expect("it is there");
    scraped.host.until(&["ports"], |ports| ports[1]["mtu"] == 1400);
    scraped.scrape();
    let end = b.namespace.netlink().expect("netlink works");
    end.set_down("eth0").expect("it is there");
    scraped.reaches(r#"millrace_port_send_refused_total{port="veth-b"}"#, 1.0, to(9));
    net.set_down("veth-b").expect("it is there");
    scraped.host.until(&["ports"], |ports| ports[1]["state"] == "down");

    // a host that does not look loses packets in the kernel
    scraped.host.signal(Signal::STOP);
    let send = to(9);
    (0..5000).for_each(|_| send());
    scraped.host.signal(Signal::CONT);
    scraped.reaches(r#"millrace_xdp_fill_ring_empty_packets_total{port="veth-a"}"#, 1.0, || ());
    scraped.reaches(r#"millrace_xdp_dropped_packets_total{port="veth-a"}"#, 1.0, || ());

    let host_has = |family: &&String| !family.starts_with("millrace_filter_");
    let unmoved: BTreeSet<_> = scraped.last.keys().filter(host_has).cloned().collect();
    let unmoved: Vec<_> = unmoved.difference(&scraped.moved).map(String::as_str).collect();
    let mut expected: Vec<_> = UNMOVED.iter().map(|(family, _)| *family).collect();
    expected.sort_unstable();
    assert_eq!(unmoved, expected);
}

#[test]
fn health_is_asked_apart_and_anything_else_is_not_there() {
    let Some(bed) = Bed::new(1) else { return };
    let scraped = Scraped::start(&bed, &["--filter=bridge"]);
    let read = |path| http::read(&bed.namespace, scraped.at, path);
    assert_eq!(read("/healthz"), (200, "ok\n".to_owned()));
    let (status, who) = read("/readyz");
    let pid = format!("ready; process {}, for ", scraped.host.pid());
    assert!(status == 200 && who.starts_with(&pid), "{status} {who}");
    assert_eq!(read("/v1/status").0, 404);
}
