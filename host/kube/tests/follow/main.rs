//! A cluster that is followed, whatever becomes of its API server, and told what has become of it. The
//! server here speaks lists, watches and merge patches, and no more; `tests/cluster` has the real one.

mod gateways;
mod report;
mod server;
mod writes;

use std::time::{Duration, Instant};

use millrace_control::World;
use millrace_control::compile::Compiler;
use millrace_control::source::Waited;
use millrace_kube::Cluster;
use server::Server;

#[test]
fn the_world_is_as_the_server_tells_once_it_has_told_of_every_kind() {
    let server = Server::start();
    server.put("nodes", "a", r#"{"spec": {"podCIDRs": ["10.1.0.0/24"]}}"#);
    let mut cluster = Followed::new(&server);
    let world = cluster.until(|world| world.nodes.contains_key("a"));
    assert_eq!(world.nodes["a"].pod_cidrs[0].to_string(), "10.1.0.0/24");

    server.put("pods", "web", r#"{"spec": {"nodeName": "a", "containers": [{"name": "c"}]}}"#);
    let world = cluster.until(|world| !world.pods.is_empty());
    assert_eq!(world.pods.keys().next().expect("one").to_string(), "default/web");
    assert_eq!(cluster.cluster.wait(Duration::ZERO), Waited::Unchanged, "all is read");
    server.delete("pods", "web");
    cluster.until(|world| world.pods.is_empty() && world.nodes.len() == 1);
}

#[test]
fn a_pod_asks_as_its_service_account() {
    let server = Server::start();
    server.put("nodes", "a", "{}");
    let mut cluster = Followed::of(server.followed_with("secret"));
    cluster.until(|world| world.nodes.contains_key("a"));
    assert_eq!(server.asked_as().as_deref(), Some("Bearer secret"));
}

#[test]
fn a_watch_that_is_cut_goes_on_where_it_was() {
    let server = Server::start();
    let mut cluster = Followed::new(&server);
    cluster.until(|world| world.nodes.is_empty());
    let lists = server.lists();
    for name in ["a", "b", "c"] {
        server.cut();
        server.put("nodes", name, "{}");
        cluster.until(|world| world.nodes.contains_key(name));
    }
    assert_eq!(server.lists(), lists, "nothing was listed anew");
}

#[test]
fn what_happened_before_the_server_forgot_is_found_in_a_new_list() {
    let server = Server::start();
    server.put("nodes", "a", "{}");
    let mut cluster = Followed::new(&server);
    cluster.until(|world| world.nodes.contains_key("a"));
    server.forget(|server| {
        server.delete("nodes", "a");
        server.put("nodes", "b", "{}");
    });
    let world = cluster.until(|world| world.nodes.contains_key("b"));
    assert!(!world.nodes.contains_key("a"));
}

#[test]
fn a_server_that_is_away_leaves_in_force_what_it_said_and_is_found_again() {
    let server = Server::start();
    server.put("nodes", "a", "{}");
    let mut cluster = Followed::new(&server);
    cluster.until(|world| world.nodes.contains_key("a"));
    server.leave();
    server.put("nodes", "b", "{}");
    // it is asked again, in vain
    assert_eq!(cluster.cluster.wait(Duration::from_secs(2)), Waited::Unchanged);
    cluster.read();
    assert_eq!(cluster.compiler.world().nodes.keys().collect::<Vec<_>>(), ["a"]);
    server.come_back();
    cluster.until(|world| world.nodes.contains_key("b"));
}

#[test]
fn what_was_kept_does_while_the_server_is_away_and_what_it_says_then_takes_its_place() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let kept = Some(folder.path());
    server.put("nodes", "a", r#"{"spec": {"podCIDRs": ["10.1.0.0/24"]}}"#);
    for pod in ["web", "db"] {
        server.put("pods", pod, r#"{"spec": {"nodeName": "a", "containers": [{"name": "c"}]}}"#);
    }
    let mut cluster = Followed::of(server.followed_and_kept(kept));
    let before = cluster.until(|world| world.pods.len() == 2);
    server.delete("pods", "db");
    cluster.until(|world| world.pods.len() == 1);
    let pods = folder.path().join("v1/Pod");
    let deadline = Instant::now() + PATIENCE;
    let whole = folder.path().join("v1/whole");
    while std::fs::read_dir(&pods).map_or(0, Iterator::count) != 1 || !whole.exists() {
        assert!(Instant::now() < deadline, "it is not kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(cluster);

    server.leave();
    let mut cluster = Followed::of(server.followed_and_kept(kept));
    assert!(!cluster.read(), "the server may tell in a moment");
    while !cluster.read() {
        assert!(Instant::now() < deadline, "what was kept does not do");
        cluster.cluster.wait(Duration::from_millis(100));
    }
    let world = cluster.compiler.world();
    assert!(!cluster.cluster.is_whole());
    assert_eq!(world.nodes, before.nodes);
    assert_eq!(world.pods.keys().map(ToString::to_string).collect::<Vec<_>>(), ["default/web"]);
    server.delete("pods", "web");
    server.put("nodes", "b", "{}");
    server.come_back();
    let world = cluster.until(|world| world.pods.is_empty());
    assert!(world.nodes.contains_key("a"));
    cluster.until(|world| world.nodes.contains_key("b"));
    assert!(Followed::of(server.followed()).until(|_| true).nodes.len() == 2);
}

#[test]
fn a_kind_that_the_cluster_has_not_keeps_nothing_waiting_and_counts_once_it_is_there() {
    let server = Server::start();
    server.lack(Some("servicecidrs"));
    server.put("nodes", "a", "{}");
    server.put("servicecidrs", "kubernetes", r#"{"spec": {"cidrs": ["10.96.0.0/16"]}}"#);
    let mut cluster = Followed::new(&server);
    let world = cluster.until(|world| world.nodes.contains_key("a"));
    assert!(world.services.ranges.is_empty());
    server.lack(None);
    cluster.until(|world| world.services.ranges.contains_key("kubernetes"));
}

#[test]
fn a_kind_that_goes_while_nobody_is_told_takes_its_objects_along() {
    let server = Server::start();
    let range = r#"{"spec": {"cidrs": ["10.96.0.0/16"]}}"#;
    server.put("nodes", "a", "{}");
    server.put("servicecidrs", "kubernetes", range);
    let mut cluster = Followed::new(&server);
    cluster.until(|world| world.services.ranges.contains_key("kubernetes"));
    server.lack(Some("servicecidrs"));
    server.cut();
    let world = cluster.until(|world| world.services.ranges.is_empty());
    assert!(world.nodes.contains_key("a"));

    // it is another one that comes back
    server.forget(|server| {
        server.delete("servicecidrs", "kubernetes");
        server.put("servicecidrs", "other", range);
    });
    server.lack(None);
    let world = cluster.until(|world| world.services.ranges.contains_key("other"));
    assert!(!world.services.ranges.contains_key("kubernetes"));
}

#[test]
fn an_account_that_may_not_read_config_maps_has_no_modules_in_them_and_all_else() {
    let server = Server::start();
    server.put("nodes", "a", "{}");
    server.forbid("configmaps");
    let mut cluster = Followed::new(&server);
    cluster.until(|world| world.nodes.contains_key("a"));
}

/// A cluster, and the world as it was told.
struct Followed {
    cluster: Cluster,
    compiler: Compiler,
}

impl Followed {
    fn new(server: &Server) -> Self {
        Self::of(server.followed())
    }

    fn of(cluster: Cluster) -> Self {
        Self { cluster, compiler: Compiler::new("a") }
    }

    /// Hears what there is to tell, if it is known yet.
    fn read(&mut self) -> bool {
        let Some((news, complaints)) = self.cluster.read() else { return false };
        assert_eq!(complaints, []);
        self.compiler.hear(news);
        true
    }

    /// Waits until the world is so.
    fn until(&mut self, is_so: impl Fn(&World) -> bool) -> World {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.read() && is_so(self.compiler.world()) {
                return self.compiler.world().clone();
            }
            assert!(Instant::now() < deadline, "what is awaited does not come");
            self.cluster.wait(PATIENCE);
        }
    }
}

/// How long something may take that comes by itself.
const PATIENCE: Duration = Duration::from_secs(60);
