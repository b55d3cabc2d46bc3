use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_dataplane::control::request::{Load, Position, StageTerms};
use millrace_dataplane::control::{MemoryPlane, WithoutPort};
use millrace_dataplane::port::{PortId, Vlans};
use millrace_dataplane::worker::WorkerSettings;
use millrace_sandbox::{Sandbox, Settings};

use super::*;
use crate::api::types::MetricStatus;
use crate::node::{PrefixUse, RefusedStatus};

/// A plane in memory with a chain of filters through which a packet has passed, as it is seen.
fn stats() -> Stats {
    let sandbox = Arc::new(Sandbox::new(&Settings::default()).unwrap());
    let ports = [("a", Vlans::transparent()), ("b", Vlans::transparent())];
    let mut plane = MemoryPlane::new(sandbox, &ports, WorkerSettings::default());
    for name in ["dns-log", "bridge"] {
        let module = millrace_builtin::find(name).expect("the filter is built in");
        let load = Load {
            name: name.to_owned(),
            module: module.bytes.to_vec(),
            config: String::new(),
            position: Position::Last,
            terms: StageTerms::default(),
        };
        plane.stages.load(load, &|_| None).unwrap();
    }
    let mut broadcast = vec![0xff; 6];
    broadcast.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    broadcast.resize(60, 0);
    assert_eq!(plane.pass("a", &[broadcast]).len(), 1);

    let fates = plane.fates().into_iter().map(|(key, packets)| FateStatus {
        port: "a".into(),
        stage: plane.stages.name_of(key.by).map(str::to_owned),
        fate: key.fate.label().into(),
        reason: key.fate.reason().map(|reason| reason.label().into()),
        packets,
    });
    Stats {
        uptime_ms: 1500,
        cache: Some(CacheStatus {
            packets: [("hit".into(), 1)].into(),
            without_port: WithoutPort { elsewhere: 3, ..WithoutPort::default() },
            ..CacheStatus::default()
        }),
        ports: vec![port("a")],
        pods: [("a".into(), "default/shop".into())].into(),
        workers: vec![WorkerStatus { hits: 7, ..WorkerStatus::default() }],
        filters: plane.stages.status().unwrap(),
        fates: fates.collect(),
        refused: vec![RefusedStatus { matter: "routes".into(), is_refused: true, times: 4 }],
        addresses: vec![PrefixUse {
            prefix: "10.1.0.0/24".parse().unwrap(),
            taken: 3,
            free: 250,
            exhausted: 2,
        }],
    }
}

fn port(name: &str) -> PortStatus {
    PortStatus {
        id: PortId::new(1).unwrap(),
        name: name.into(),
        kind: "wire".into(),
        state: PortState::Up,
        attached: "cache".into(),
        bound: "copy".into(),
        mtu: 1500,
        mac: None,
        vlans: "transparent".into(),
        queues: 1,
        notes: Vec::new(),
        counters: millrace_dataplane::control::status::PortTotals {
            rx_packets: 3,
            ..Default::default()
        },
    }
}

/// A page, read as strictly as a scraper would.
struct Read {
    kinds: BTreeMap<String, String>,
    /// Values by name and labels.
    samples: BTreeMap<String, f64>,
}

impl Read {
    fn page(page: &str) -> Self {
        let mut read = Self { kinds: BTreeMap::new(), samples: BTreeMap::new() };
        let mut helped = BTreeSet::new();
        assert!(page.ends_with('\n'));
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect(line);
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect(line);
                assert!(helped.contains(name), "{line}");
                assert!(read.kinds.insert(name.into(), kind.into()).is_none(), "{line}");
            } else {
                read.sample(line);
            }
        }
        read
    }

    fn sample(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').expect(line);
        let name = series.split('{').next().expect("there is a first part");
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(name.chars().all(legal) && !name.starts_with(char::is_numeric), "{line}");
        if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            labels_of(labels);
        }
        let family = ["", "_bucket", "_sum", "_count"].into_iter().find_map(|suffix| {
            let family = name.strip_suffix(suffix)?;
            let histogram = self.kinds.get(family)? == "histogram";
            (histogram != suffix.is_empty()).then_some(family)
        });
        assert!(family.is_some(), "{line} is of no family");
        let value: f64 = value.parse().expect(line);
        assert!(self.samples.insert(series.to_owned(), value).is_none(), "{line} comes twice");
    }
}

/// Reads `{a="b",c="d"}`; panics if it is not that.
fn labels_of(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text.strip_prefix('{').expect(text);
    loop {
        let (name, behind) = rest.split_once("=\"").expect(text);
        let (mut value, mut chars) = (String::new(), behind.chars());
        loop {
            match chars.next().expect(text) {
                '"' => break,
                '\\' => match chars.next() {
                    Some('n') => value.push('\n'),
                    Some(c @ ('\\' | '"')) => value.push(c),
                    other => panic!("{other:?} is escaped in {text}"),
                },
                '\n' => panic!("a newline in {text}"),
                c => value.push(c),
            }
        }
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} comes twice in {text}");
        match chars.next() {
            Some(',') => rest = chars.as_str(),
            Some('}') if chars.as_str().is_empty() => return labels,
            other => panic!("{other:?} in {text}"),
        }
    }
}

#[test]
fn every_declared_family_is_on_the_page_of_a_plane_that_runs() {
    let read = Read::page(&render(&stats(), &Process::now()));
    for family in families::ALL {
        let kind = format!("{:?}", family.kind).to_lowercase();
        assert_eq!(read.kinds.get(family.name), Some(&kind), "{}", family.name);
    }
    let filters = |name: &&String| name.starts_with("millrace_filter_");
    assert_eq!(read.kinds.keys().filter(|name| !filters(name)).count(), families::ALL.len());
}

#[test]
fn the_values_are_what_was_counted() {
    let read = Read::page(&render(&stats(), &Process::now())).samples;
    assert_eq!(read[r#"millrace_port_received_packets_total{port="a"}"#], 3.0);
    assert_eq!(read[r#"millrace_worker_flow_hits_total{worker="0"}"#], 7.0);
    assert_eq!(read[r#"millrace_packets_total{port="a",stage="bridge",fate="flooded"}"#], 1.0);
    assert_eq!(read[r#"millrace_stage_asked_packets_total{stage="bridge"}"#], 1.0);
    assert_eq!(read[r#"millrace_stage_state{stage="bridge",state="running"}"#], 1.0);
    assert_eq!(read[r#"millrace_filter_learned_total{stage="bridge"}"#], 1.0);
    assert_eq!(read[r#"millrace_node_refused{matter="routes"}"#], 1.0);
    assert_eq!(read[r#"millrace_node_refusals_total{matter="routes"}"#], 4.0);
    assert_eq!(read[r#"millrace_addresses{prefix="10.1.0.0/24",state="taken"}"#], 3.0);
    assert_eq!(read[r#"millrace_addresses{prefix="10.1.0.0/24",state="free"}"#], 250.0);
    assert_eq!(read[r#"millrace_addresses_exhausted_total{prefix="10.1.0.0/24"}"#], 2.0);
    assert_eq!(read["millrace_uptime_seconds"], 1.5);
    assert!(read[r#"millrace_process_resident_memory_bytes{kind="anonymous"}"#] > 0.0);
    assert!(read["millrace_process_cpu_seconds_total"] > 0.0);
}

/// A snapshot in which every number is another one: each field of it that is a number is counted
/// up, from 1000.
fn numbered() -> Stats {
    fn number(value: &mut serde_json::Value, next: &mut u64) {
        match value {
            serde_json::Value::Number(_) => {
                *value = (*next).into();
                *next += 1;
            }
            serde_json::Value::Array(values) => values.iter_mut().for_each(|v| number(v, next)),
            serde_json::Value::Object(map) => map.values_mut().for_each(|v| number(v, next)),
            _ => {}
        }
    }
    let stats = Stats { fates: stats().fates.into_iter().take(1).collect(), ..stats() };
    let mut numbered = serde_json::to_value(stats).unwrap();
    number(&mut numbered, &mut 1000);
    let mut stats: Stats = serde_json::from_value(numbered).unwrap();
    // what the kernel carried is part of all
    for port in &mut stats.ports {
        let n = &mut port.counters;
        n.rx_packets += n.rx_kernel_packets;
        n.rx_bytes += n.rx_kernel_bytes;
        n.tx_packets += n.tx_kernel_packets;
        n.tx_bytes += n.tx_kernel_bytes;
    }
    stats
}

#[test]
fn a_pod_sends_what_comes_in_by_its_port_and_each_packet_has_one_carrier() {
    let stats = numbered();
    let read = Read::page(&render(&stats, &Process::default())).samples;
    let n = &stats.ports[0].counters;
    for (name, direction, all, kernel) in [
        ("packets", "sent", n.rx_packets, n.rx_kernel_packets),
        ("packets", "received", n.tx_packets, n.tx_kernel_packets),
        ("bytes", "sent", n.rx_bytes, n.rx_kernel_bytes),
        ("bytes", "received", n.tx_bytes, n.tx_kernel_bytes),
    ] {
        let series = |carrier: &str| {
            let pod = "pod=\"default/shop\"";
            format!(
                "millrace_pod_{name}_total{{{pod},direction=\"{direction}\",carrier=\"{carrier}\"}}"
            )
        };
        assert_eq!(read[&series("kernel")], kernel as f64, "{direction}");
        assert_eq!(read[&series("worker")], (all - kernel) as f64, "{direction}");
    }
}

#[test]
fn every_family_has_the_number_it_is_about() {
    let stats = numbered();
    let read = Read::page(&render(&stats, &Process::default())).samples;
    let (port, worker) = (&stats.ports[0], &stats.workers[0]);
    let (stage, fate) = (&stats.filters[1], &stats.fates[0]);
    let (p, s) = (&port.counters, &stage.counters);
    let per_port = [
        ("mtu_bytes", port.mtu.into()),
        ("received_packets_total", p.rx_packets),
        ("received_bytes_total", p.rx_bytes),
        ("sent_packets_total", p.tx_packets),
        ("sent_bytes_total", p.tx_bytes),
        ("kernel_received_packets_total", p.rx_kernel_packets),
        ("kernel_received_bytes_total", p.rx_kernel_bytes),
        ("kernel_sent_packets_total", p.tx_kernel_packets),
        ("kernel_sent_bytes_total", p.tx_kernel_bytes),
        ("connections_evicted_total", p.evicted),
        ("connections_crowded_out_total", p.crowded_out),
        ("send_refused_total", p.tx_refused),
    ];
    let xdp = [
        ("dropped_packets_total", p.rx_dropped),
        ("receive_ring_full_packets_total", p.rx_ring_full),
        ("fill_ring_empty_packets_total", p.rx_no_frame),
        ("invalid_descriptors_total", p.invalid),
    ];
    let per_worker = [
        ("bursts_total", worker.bursts),
        ("flow_hits_total", worker.hits),
        ("flow_misses_total", worker.misses),
        ("flows", worker.flows),
        ("sleeps_total", worker.sleeps),
        ("free_frames", worker.free_frames),
        ("uncounted_packets_total", worker.uncounted),
    ];
    let per_stage = [
        ("calls_total", s.calls),
        ("asked_packets_total", s.asked),
        ("canary_asked_packets_total", s.asked_canary),
        ("dropped_packets_total", s.dropped),
        ("canary_dropped_packets_total", s.dropped_canary),
        ("shown_packets_total", s.shown),
        ("emitted_frames_total", s.emitted),
        ("absent_packets_total", s.absent),
        ("memory_bytes", s.memory),
    ];
    let outcomes = [
        ("packet_hook", "outcome", "dropped", s.shown_dropped),
        ("packet_hook", "outcome", "answered", s.shown_answered),
        ("packet_hook", "outcome", "rewritten", s.shown_rewritten),
        ("shadow_packets", "outcome", "same", s.shadow_same),
        ("shadow_packets", "outcome", "stricter", s.shadow_stricter),
        ("shadow_packets", "outcome", "looser", s.shadow_looser),
        ("faults", "class", "trap", s.faults["trap"]),
        ("faults", "class", "answer", s.faults["answer"]),
    ];
    let cache = stats.cache.as_ref().unwrap();
    let of_cache = [
        ("connections", cache.connections),
        ("connections_opened_total", cache.opened),
        ("connections_without_port_total", cache.without_port.refused()),
        ("cache_installed_entries_total", cache.installed),
        ("cache_full_total", cache.full),
        ("cache_refused_total", cache.refused),
        ("cache_send_refused_total", cache.send_refused),
        ("cache_packets_total{fate=\"hit\"}", cache.packets["hit"]),
    ];
    let is = |series: String, value: u64| {
        let series = format!("millrace_{series}");
        assert_eq!(read.get(&series), Some(&(value as f64)), "{series}");
    };
    for (name, value) in of_cache {
        is(name.to_owned(), value);
    }
    for (name, value) in per_port {
        is(format!("port_{name}{{port=\"a\"}}"), value);
    }
    for (name, value) in xdp {
        is(format!("xdp_{name}{{port=\"a\"}}"), value);
    }
    for (name, value) in per_worker {
        is(format!("worker_{name}{{worker=\"{}\"}}", worker.worker), value);
    }
    for (name, value) in per_stage {
        is(format!("stage_{name}{{stage=\"bridge\"}}"), value);
    }
    for (name, label, word, value) in outcomes {
        is(format!("stage_{name}_total{{stage=\"bridge\",{label}=\"{word}\"}}"), value);
    }
    let decided = format!("port=\"a\",stage=\"bridge\",fate=\"{}\"", fate.fate);
    is(format!("packets_total{{{decided}}}"), fate.packets);
    let busy = read[r#"millrace_stage_busy_seconds_total{stage="bridge"}"#];
    assert_eq!(busy, s.busy_ns as f64 / 1e9);
    assert_eq!(read["millrace_uptime_seconds"], stats.uptime_ms as f64 / 1000.0);
}

#[test]
fn names_follow_the_conventions() {
    for family in families::ALL {
        let counter = family.kind == prometheus::proto::MetricType::COUNTER;
        assert_eq!(family.name.ends_with("_total"), counter, "{}", family.name);
        assert!(family.name.starts_with("millrace_"), "{}", family.name);
        assert!(family.help.ends_with('.'), "{}", family.name);
    }
}

#[test]
fn alerts_and_the_dashboard_ask_for_metrics_that_there_are() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    for file in ["prometheus/rules.yaml", "prometheus/rules.test.yaml", "grafana/millrace.json"] {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
        let names: BTreeSet<_> = words.filter(|word| word.starts_with("millrace_")).collect();
        assert!(names.len() > 3, "{file}: {names:?}");
        for name in names {
            assert!(f::ALL.iter().any(|family| family.name == name), "{file}: {name}");
        }
    }
}

#[test]
fn a_filters_histogram_is_cumulative() {
    let mut buckets = vec![0; 32];
    // a 0, two 1s, a 5, and one that is larger than all bounds
    (buckets[0], buckets[1], buckets[3], buckets[31]) = (1, 2, 1, 1);
    let mut page = Page::default();
    page.add_counted("s", "name-length", &MetricStatus::Histogram { buckets, sum: 1 << 40 });
    let read = Read::page(&page.text());
    assert_eq!(read.kinds["millrace_filter_name_length"], "histogram");
    let below = |bound: &str| {
        read.samples[&format!(r#"millrace_filter_name_length_bucket{{stage="s",le="{bound}"}}"#)]
    };
    let bounds = ["0", "1", "3", "7", "1073741823", "+Inf"].map(below);
    assert_eq!(bounds, [1.0, 3.0, 3.0, 4.0, 4.0, 5.0]);
    assert_eq!(read.samples[r#"millrace_filter_name_length_count{stage="s"}"#], 5.0);
    assert_eq!(read.samples[r#"millrace_filter_name_length_sum{stage="s"}"#], (1_u64 << 40) as f64);
}

#[test]
fn a_label_cannot_break_out_of_its_line() {
    let name = "a\"} 1\nmillrace_evil{x=\"\\";
    let stats = Stats { ports: vec![port(name)], ..Stats::default() };
    let read = Read::page(&render(&stats, &Process::default()));
    assert!(!read.samples.keys().any(|series| series.starts_with("millrace_evil")));
    let series = read.samples.keys().find(|series| series.starts_with("millrace_port_mtu"));
    let labels = labels_of(series.unwrap().strip_prefix("millrace_port_mtu_bytes").unwrap());
    assert_eq!(labels["port"], name);
}

#[test]
fn filters_that_count_different_things_under_one_name_are_kept_apart() {
    let mut page = Page::default();
    page.add_counted("s", "x", &MetricStatus::Gauge(-1));
    page.add_counted("t", "x", &MetricStatus::Gauge(2));
    page.add_counted("u", "x", &MetricStatus::Counter(3));
    page.add_counted("v", "x", &MetricStatus::Histogram { buckets: vec![0; 32], sum: 0 });
    let read = Read::page(&page.text());
    assert_eq!(read.samples[r#"millrace_filter_x{stage="s"}"#], -1.0);
    assert_eq!(read.samples[r#"millrace_filter_x{stage="t"}"#], 2.0);
    assert_eq!(read.samples[r#"millrace_filter_x_total{stage="u"}"#], 3.0);
    assert_eq!(read.kinds["millrace_filter_x_other"], "histogram");
}
