//! Pods behind the kernel's flow cache: what it does not know goes through a worker, and what
//! was decided stays in the kernel.

use crate::bed::Bed;

#[test]
fn what_the_cache_does_not_know_goes_through_the_chain() {
    let bed = Bed::cached(3, 2).bridged();
    for from in &bed.pods {
        for to in &bed.pods {
            assert!(from.pings(to.address), "{} to {}", from.address, to.address);
            assert!(from.pings(to.v6()), "{} to {}", from.v6(), to.v6());
        }
    }
    let asked = bed.stage("bridge");
    assert!(bed.port("p1").counters.rx_packets > 0, "{asked:?}");
}
