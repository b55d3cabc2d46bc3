//! When a worker sleeps.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

use millrace_abi::PortKind;

use super::*;
use crate::mailbox::mailbox;
use crate::port::{Port, Vlans};

/// One port's queue, which says of each sleep how often it was looked into before, and what was
/// left in it.
struct Queue {
    frames: VecDeque<Vec<u8>>,
    looked: usize,
    slept: Sender<(usize, usize)>,
}

impl Io for Queue {
    type Frame = Vec<u8>;

    fn receive(&mut self, _port: PortId, frames: &mut Vec<Vec<u8>>, max: usize) {
        self.looked += 1;
        frames.extend(self.frames.drain(..max.min(self.frames.len())));
    }

    fn transmit(&mut self, _port: PortId, frame: Vec<u8>) -> Result<(), Vec<u8>> {
        Err(frame)
    }

    fn commit(&mut self) {}

    fn staged(&self, _port: PortId) -> u64 {
        0
    }

    fn left(&mut self, _port: PortId) -> u64 {
        0
    }

    fn bytes<'a>(&'a self, frame: &'a Vec<u8>) -> &'a [u8] {
        frame
    }

    fn prefetch(&self, _frame: &Vec<u8>) {}

    fn buffer<'a>(&'a mut self, frame: &'a mut Vec<u8>) -> &'a mut [u8] {
        frame
    }

    fn copy(&mut self, from: &Vec<u8>, to: &mut Vec<u8>) -> usize {
        to.clone_from(from);
        from.len()
    }

    fn set_len(&mut self, frame: &mut Vec<u8>, len: usize) {
        frame.truncate(len);
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn put(&mut self, _frame: Vec<u8>) {}

    fn now_ns(&self) -> u64 {
        millrace_sandbox::now_ns()
    }

    fn wait(&mut self, _timeout: Duration) {
        let _ = self.slept.send((self.looked, self.frames.len()));
    }
}

/// How often a worker has looked into a queue with so many frames when it sleeps first, and what it
/// has left there.
fn first_sleep(frames: usize, spin: Duration) -> (usize, usize) {
    let (slept, sleeps): (_, Receiver<_>) = channel();
    let queue = Queue { frames: vec![vec![0; 60]; frames].into(), looked: 0, slept };
    let (reports, _reported) = sync_channel(1);
    let settings = WorkerSettings { burst: BURST, spin, ..WorkerSettings::default() };
    let mut worker = Worker::new(queue, settings, FaultDesk { worker: 0, reports });
    let id = PortId::new(1).unwrap();
    let port = Port {
        id,
        name: "port".to_owned(),
        kind: PortKind::Wire,
        link: 0,
        mtu: 1500,
        up: true,
        shaped: false,
        vlans: Vlans::access(0),
        completes_checksums: false,
        hold: Hold::Direct,
    };
    worker.add_port(HeldPort { port, counters: Arc::default() });
    let (postman, mailbox) = mailbox(|| {});
    thread::scope(|scope| {
        scope.spawn(|| worker.run(&mailbox));
        let first = sleeps.recv().unwrap();
        postman.close();
        first
    })
}

#[test]
fn a_worker_sleeps_once_its_queue_is_empty_and_not_before() {
    assert_eq!(first_sleep(0, Duration::ZERO), (1, 0));
    assert_eq!(first_sleep(BURST - 1, Duration::ZERO), (1, 0), "it has seen that there is no more");
    assert_eq!(first_sleep(BURST, Duration::ZERO), (2, 0), "there could have been more");
    assert_eq!(first_sleep(3 * BURST + 1, Duration::ZERO), (4, 0));
}

#[test]
fn a_worker_that_spins_looks_again_before_it_sleeps() {
    let (looked, left) = first_sleep(1, Duration::from_micros(50));
    assert!(looked > 1 && left == 0, "{looked}, {left}");
}

const BURST: usize = 4;
