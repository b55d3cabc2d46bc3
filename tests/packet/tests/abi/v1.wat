;; SPDX-License-Identifier: Apache-2.0
;;
;; A guest of version 1.0 of the contract, with every hook and every import. It stays as it is: a host
;; that does not run it, or runs it otherwise than `v1.rs` says, has broken version 1.
;;
;; What it does with a flow follows from the destination port; port 40 has it try what the host offers.
(module
  (@custom "millrace"
    "{\"abi\":1,\"name\":\"constant\",\"version\":\"1.0.0\",\"description\":\"It stays as it is.\","
    "\"hooks\":[\"flow\",\"packet\",\"tick\",\"update\"],\"classes\":[\"arp\"],\"snap\":128,"
    "\"capabilities\":[\"drop\",\"reject\",\"redirect\",\"translate\",\"inspect\",\"rewrite\",\"emit\","
    "\"share\"],\"tables\":[\"ranges/0\"],\"config\":{\"type\":\"object\"},"
    "\"rules\":[{\"id\":1,\"name\":\"dropped\",\"help\":\"Port 23.\"},{\"id\":2,\"name\":\"rejected\"},"
    "{\"id\":3,\"name\":\"flooded\"},{\"id\":4,\"name\":\"seen\"}],"
    "\"maps\":[{\"name\":\"seen\",\"key\":[{\"name\":\"source\",\"type\":\"ip\"}],"
    "\"value\":[{\"name\":\"flows\",\"type\":\"u64\"}]}]}")

  (import "millrace" "log" (func $log (param i32 i32 i32)))
  (import "millrace" "fail" (func $fail (param i32 i32)))
  (import "millrace" "now" (func $now (result i64)))
  (import "millrace" "metric" (func $metric (param i32 i32 i32 i32) (result i32)))
  (import "millrace" "map_open" (func $map_open (param i32 i32 i32) (result i32)))
  (import "millrace" "map_get" (func $map_get (param i32 i32 i32) (result i32)))
  (import "millrace" "map_set" (func $map_set (param i32 i32 i32) (result i32)))
  (import "millrace" "map_remove" (func $map_remove (param i32 i32) (result i32)))
  (import "millrace" "map_add" (func $map_add (param i32 i32 i64 i32) (result i32)))
  (import "millrace" "map_exchange" (func $map_exchange (param i32 i32 i32 i32) (result i32)))
  (import "millrace" "map_get_all" (func $map_get_all (param i32 i32 i32 i32 i32) (result i32)))
  (import "millrace" "map_exchange_all"
    (func $map_exchange_all (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "millrace" "emit" (func $emit (param i32 i32 i32) (result i32)))

  (memory (export "memory") 8)

  ;;   16  sum that map_add writes          512  what values are read to, and written from
  ;;   24  counter of flows                 544  two keys, and from 576 on whether they are there,
  ;;   32  gauge of ticks                        what became of them, and two values twice
  ;;   64  histogram, 264 bytes             640  a key of the map of connections
  ;;  336  shapes of three maps             704  a frame
  (data (i32.const 336) "\10\00\00\00" "\08\00\00\00" "\40\00\00\00" "\60\ea\00\00"
    "\00\00\00\00" "\00\00\00\00" "\00\00\00\00\00\00\00\00") ;; 16, 8, 64 entries, a minute
  (data (i32.const 368) "\02\00\00\00" "\04\00\00\00" "\01\00\00\00" "\00\00\00\00"
    "\03\00\00\00" "\01\00\00\00" "\00\00\00\00\00\00\00\00") ;; 2, 4, one; SHARED, TOUCH; quota 1
  (data (i32.const 400) "\14\00\00\00" "\08\00\00\00" "\01\00\00\00" "\00\00\00\00"
    "\04\00\00\00" "\00\00\00\00" "\00\00\00\00\00\00\00\00") ;; 20, 8; CONNECTIONS
  (data (i32.const 448) "seen" "common" "open" "flows" "ticks" "lengths" "nothing" "ready" "00")
  (data (i32.const 512) "\07\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00" "\08\00\00\00\00\00\00\00")
  (data (i32.const 704)
    "\02\00\00\00\00\02" "\02\00\00\00\00\01" "\88\b5" "from the guest, 60 bytes in all\00\00")

  (global $free (mut i32) (i32.const 1024))
  (global $seen (mut i32) (i32.const 0))
  (global $common (mut i32) (i32.const 0))
  (global $open (mut i32) (i32.const 0))
  (global $generation (mut i64) (i64.const 0))

  (func (export "millrace_alloc") (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $free))
    (global.set $free
      (i32.and (i32.add (i32.add (local.get $at) (local.get $len)) (i32.const 15)) (i32.const -16)))
    (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
      (then (return (i32.const 0))))
    (local.get $at))

  ;; takes an empty configuration, and no other
  (func (export "millrace_configure") (param $json i32) (param $len i32) (result i32)
    (global.set $free (local.get $json))
    (if (i32.ne (local.get $len) (i32.const 2))
      (then
        (call $fail (i32.const 479) (i32.const 7)) ;; nothing
        (return (i32.const 1))))
    (memory.fill (i32.const 24) (i32.const 0) (i32.const 304))
    (global.set $seen (call $map_open (i32.const 448) (i32.const 4) (i32.const 336)))
    (global.set $common (call $map_open (i32.const 452) (i32.const 6) (i32.const 368)))
    (global.set $open (call $map_open (i32.const 458) (i32.const 4) (i32.const 400)))
    (call $log (i32.const 3) (i32.const 486) (i32.const 5)) ;; ready
    ;; handles from 0 on, and three metrics that are taken
    (i32.or
      (i32.or
        (i32.or
          (i32.ne (global.get $seen) (i32.const 0)) (i32.ne (global.get $common) (i32.const 1)))
        (i32.ne (global.get $open) (i32.const 2)))
      (i32.or
        (i32.or
          (i32.ne (i32.const 1)
            (call $metric (i32.const 1) (i32.const 462) (i32.const 5) (i32.const 24)))
          (i32.ne (i32.const 1)
            (call $metric (i32.const 2) (i32.const 467) (i32.const 5) (i32.const 32))))
        (i32.ne (i32.const 1)
          (call $metric (i32.const 3) (i32.const 472) (i32.const 7) (i32.const 64))))))

  ;; remembers the generation, with which the last record ends
  (func (export "millrace_update") (param $changes i32) (param $len i32) (result i32)
    (global.set $free (local.get $changes))
    (global.set $generation
      (i64.load (i32.sub (i32.add (local.get $changes) (local.get $len)) (i32.const 8))))
    (i32.const 0))

  (func (export "millrace_tick") (param $now i64) (result i32)
    (i64.store (i32.const 32) (i64.add (i64.load (i32.const 32)) (i64.const 1)))
    (i64.eqz (local.get $now)))

  (func (export "millrace_flow")
    (param $slot i32) (param $decision i32) (param $n i32) (result i32)
    (loop $next
      (call $decide (local.get $slot) (local.get $decision))
      (local.set $slot (i32.add (local.get $slot) (i32.const 128)))
      (local.set $decision (i32.add (local.get $decision) (i32.const 128)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n)))
    (i32.const 0))

  (func $decide (param $slot i32) (param $decision i32)
    (local $port i32) (local $failed i32)
    (if (i32.load8_u offset=60 (local.get $slot)) ;; class: not FLOW
      (then
        (i32.store16 offset=2 (local.get $decision) (i32.const 0x2)) ;; FLOOD
        (return)))
    (i64.store (i32.const 24) (i64.add (i64.load (i32.const 24)) (i64.const 1)))
    (call $observe (i32.load offset=120 (local.get $slot))) ;; len

    ;; but for what follows, out of the other one of two ports
    (i32.store16 offset=2 (local.get $decision) (i32.const 0x1)) ;; EGRESS
    (i32.store16 offset=6 (local.get $decision)
      (i32.xor (i32.const 3) (i32.load16_u offset=56 (local.get $slot)))) ;; ingress
    (local.set $port (i32.load16_u offset=34 (local.get $slot))) ;; dst_port

    (if (i32.eq (local.get $port) (i32.const 23))
      (then
        (i32.store8 offset=0 (local.get $decision) (i32.const 1)) ;; DROP
        (i32.store16 offset=4 (local.get $decision) (i32.const 32)) ;; DENIED
        (i32.store offset=8 (local.get $decision) (i32.const 1))))
    (if (i32.eq (local.get $port) (i32.const 24))
      (then
        (i32.store8 offset=0 (local.get $decision) (i32.const 2)) ;; REJECT
        (i32.store16 offset=4 (local.get $decision) (i32.const 39)) ;; NO_BACKEND
        (i32.store offset=8 (local.get $decision) (i32.const 2))))
    (if (i32.eq (local.get $port) (i32.const 25))
      (then
        (i32.store16 offset=2 (local.get $decision) (i32.const 0x702)) ;; FLOOD IDLE REVALIDATE ONCE
        (i32.store offset=8 (local.get $decision) (i32.const 3))
        (i32.store offset=20 (local.get $decision) (i32.const 5000)) ;; idle_ms
        (i32.store offset=24 (local.get $decision) (i32.const 1000)))) ;; revalidate_ms
    (if (i32.eq (local.get $port) (i32.const 26))
      (then
        (i32.store8 offset=1 (local.get $decision) (i32.const 2)) ;; tag_count
        (i32.store offset=32 (local.get $decision) (i32.const 0x10000007)) ;; a Service
        (i32.store offset=36 (local.get $decision) (i32.const 0x50000001)) ;; a port
        (i32.store16 offset=2 (local.get $decision) (i32.const 0x81)) ;; EGRESS INSPECT
        (i32.store16 offset=12 (local.get $decision) (i32.const 0xffff)))) ;; inspect
    (if (i32.eq (local.get $port) (i32.const 27))
      (then
        (i32.store16 offset=2 (local.get $decision) (i32.const 0x41)))) ;; EGRESS DECREMENT_TTL
    (if (i32.eq (local.get $port) (i32.const 28))
      (then
        (i32.store16 offset=2 (local.get $decision) (i32.const 0x80d)) ;; EGRESS TO AS PICK_AGAIN
        (i32.store16 offset=14 (local.get $decision) (i32.const 99)) ;; to_port
        (i32.store16 offset=16 (local.get $decision) (i32.const 98)) ;; as_port
        (memory.copy
          (i32.add (local.get $decision) (i32.const 64)) (local.get $slot) (i32.const 16)) ;; to_addr
        (memory.copy
          (i32.add (local.get $decision) (i32.const 80))
          (i32.add (local.get $slot) (i32.const 16)) (i32.const 16)))) ;; as_addr
    (if (i32.eq (local.get $port) (i32.const 29))
      (then
        (i32.store16 offset=2 (local.get $decision) (i32.const 0x31)) ;; EGRESS MASQUERADE NEXT_HOP
        (memory.copy
          (i32.add (local.get $decision) (i32.const 96)) (local.get $slot) (i32.const 16))))
    (if (i32.eq (local.get $port) (i32.const 30))
      (then
        (i32.store16 offset=2 (local.get $decision) (i32.const 0x401)) ;; EGRESS ONCE
        (if (i64.ne (global.get $generation) (i64.const 1))
          (then
            (i32.store8 offset=0 (local.get $decision) (i32.const 1)) ;; DROP
            (i32.store16 offset=4 (local.get $decision) (i32.const 36)))))) ;; NO_ROUTE
    (if (i32.eq (local.get $port) (i32.const 31))
      (then unreachable))
    (if (i32.eq (local.get $port) (i32.const 32))
      (then (i32.store16 offset=2 (local.get $decision) (i32.const 0x3)))) ;; EGRESS FLOOD: wrong
    (if (i32.eq (local.get $port) (i32.const 40))
      (then
        (local.set $failed (call $try (local.get $slot)))
        (if (local.get $failed)
          (then
            (i32.store8 (i32.const 491)
              (i32.add (i32.const 48) (i32.div_u (local.get $failed) (i32.const 10))))
            (i32.store8 (i32.const 492)
              (i32.add (i32.const 48) (i32.rem_u (local.get $failed) (i32.const 10))))
            (call $log (i32.const 1) (i32.const 491) (i32.const 2))
            (i32.store8 offset=0 (local.get $decision) (i32.const 1)) ;; DROP
            (i32.store16 offset=4 (local.get $decision) (i32.const 47))))))) ;; INVALID_STATE

  ;; Tries the imports with the slot's addresses as keys; the number of what goes wrong, or 0.
  (func $try (param $slot i32) (result i32)
    (local $key i32)
    (local.set $key (i32.add (local.get $slot) (i32.const 16))) ;; dst_addr
    (if (i64.le_s (call $now) (i64.const 0)) (then (return (i32.const 1))))
    ;; a value of 7, of which others make 8 once
    (if (i32.ne (i32.const 1)
        (call $map_set (global.get $seen) (local.get $key) (i32.const 512)))
      (then (return (i32.const 2))))
    (if (i32.ne (i32.const 1)
        (call $map_get (global.get $seen) (local.get $key) (i32.const 520)))
      (then (return (i32.const 3))))
    (if (i64.ne (i64.load (i32.const 520)) (i64.const 7)) (then (return (i32.const 4))))
    (if (i32.ne (i32.const 1)
        (call $map_exchange
          (global.get $seen) (local.get $key) (i32.const 512) (i32.const 528)))
      (then (return (i32.const 5))))
    (if (call $map_exchange (global.get $seen) (local.get $key) (i32.const 512) (i32.const 528))
      (then (return (i32.const 6))))
    (if (call $map_exchange (global.get $seen) (local.get $key) (i32.const 0) (i32.const 528))
      (then (return (i32.const 7))))
    (if (i32.ne (i32.const 1)
        (call $map_add (global.get $seen) (local.get $key) (i64.const -3) (i32.const 16)))
      (then (return (i32.const 8))))
    (if (i64.ne (i64.load (i32.const 16)) (i64.const 5)) (then (return (i32.const 9))))
    ;; two at once: the destination is there, the source is not
    (memory.copy (i32.const 544) (local.get $key) (i32.const 16))
    (memory.copy (i32.const 560) (local.get $slot) (i32.const 16))
    (if (i32.ne (i32.const 1)
        (call $map_get_all
          (global.get $seen) (i32.const 2) (i32.const 544) (i32.const 592) (i32.const 576)))
      (then (return (i32.const 10))))
    (if (i32.ne (i32.load16_u (i32.const 576)) (i32.const 0x0001))
      (then (return (i32.const 11))))
    (if (i64.ne (i64.load (i32.const 592)) (i64.const 5)) (then (return (i32.const 12))))
    (i64.store (i32.const 608) (i64.const 1))
    (i64.store (i32.const 616) (i64.const 2))
    (if (i32.ne (i32.const 1)
        (call $map_exchange_all
          (global.get $seen) (i32.const 2) (i32.const 544) (i32.const 576) (i32.const 592)
          (i32.const 608) (i32.const 580)))
      (then (return (i32.const 13))))
    (if (i32.ne (i32.load16_u (i32.const 580)) (i32.const 0x0101))
      (then (return (i32.const 14))))
    (if (i32.ne (i32.const 1) (call $map_remove (global.get $seen) (local.get $key)))
      (then (return (i32.const 15))))
    (if (call $map_remove (global.get $seen) (local.get $key)) (then (return (i32.const 16))))
    (if (call $map_get (global.get $seen) (local.get $key) (i32.const 520))
      (then (return (i32.const 17))))
    (if (i32.ne (i32.const 1) (call $map_remove (global.get $seen) (local.get $slot)))
      (then (return (i32.const 18))))
    ;; room for one entry; values too short to add to
    (if (i32.ne (i32.const 1)
        (call $map_set (global.get $common) (i32.const 512) (i32.const 512)))
      (then (return (i32.const 19))))
    (if (i32.ne (i32.const -1)
        (call $map_set (global.get $common) (i32.const 528) (i32.const 512)))
      (then (return (i32.const 20))))
    (if (call $map_add (global.get $common) (i32.const 512) (i64.const 1) (i32.const 16))
      (then (return (i32.const 21))))
    ;; the host's own map
    (if (call $map_get (global.get $open) (i32.const 640) (i32.const 520))
      (then (return (i32.const 22))))
    (if (i32.ne (i32.const -2)
        (call $map_set (global.get $open) (i32.const 640) (i32.const 520)))
      (then (return (i32.const 23))))
    ;; what is refused
    (if (i32.ne (i32.const -2) (call $map_get (i32.const 3) (i32.const 640) (i32.const 520)))
      (then (return (i32.const 24))))
    (if (i32.ne (i32.const -2) (call $map_open (i32.const 448) (i32.const 4) (i32.const 336)))
      (then (return (i32.const 25))))
    (if (i32.ne (i32.const -2)
        (call $metric (i32.const 1) (i32.const 479) (i32.const 7) (i32.const 24)))
      (then (return (i32.const 26))))
    (if (i32.ne (i32.const -2) (call $emit (i32.const 0) (i32.const 704) (i32.const 60)))
      (then (return (i32.const 27))))
    (if (i32.ne (i32.const -2) (call $emit (i32.const 2) (i32.const 704) (i32.const 13)))
      (then (return (i32.const 28))))
    (if (i32.ne (i32.const 1) (call $emit (i32.const 2) (i32.const 704) (i32.const 60)))
      (then (return (i32.const 29))))
    (i32.const 0))

  ;; Counts a length in the histogram.
  (func $observe (param $len i32)
    (local $bucket i32)
    (local.set $bucket
      (i32.shl (i32.sub (i32.const 32) (i32.clz (local.get $len))) (i32.const 3)))
    (i64.store offset=64 (local.get $bucket)
      (i64.add (i64.load offset=64 (local.get $bucket)) (i64.const 1)))
    (i64.store (i32.const 320) ;; 64 + 32 * 8
      (i64.add (i64.load (i32.const 320)) (i64.extend_i32_u (local.get $len)))))

  (func (export "millrace_packet")
    (param $slots i32) (param $packet i32) (param $n i32) (result i32)
    (loop $next
      (call $look
        (i32.add
          (local.get $slots)
          (i32.mul (i32.load offset=16 (local.get $packet)) (i32.const 128))) ;; slot
        (local.get $packet) (i32.load offset=0 (local.get $packet))) ;; data
      (local.set $packet (i32.add (local.get $packet) (i32.const 32)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n)))
    (i32.const 0))

  ;; Sends ARP back as it came, but for Ethernet's addresses; the first byte behind UDP's header says
  ;; what becomes of a packet of a flow.
  (func $look (param $slot i32) (param $packet i32) (param $frame i32)
    (local $first i32)
    (if (i32.eq (i32.load8_u offset=60 (local.get $slot)) (i32.const 1)) ;; class: ARP
      (then
        (memory.copy (local.get $frame) (i32.add (local.get $frame) (i32.const 6)) (i32.const 6))
        (memory.copy (i32.add (local.get $frame) (i32.const 6)) (i32.const 704) (i32.const 6))
        (i32.store8 offset=20 (local.get $packet) (i32.const 2)) ;; ANSWER
        (i32.store offset=24 (local.get $packet) (i32.const 4)) ;; rule
        (i32.store offset=28 (local.get $packet) (i32.load offset=4 (local.get $packet)))
        (return)))
    (local.set $first (i32.load8_u offset=42 (local.get $frame)))
    (if (i32.eq (local.get $first) (i32.const 0x64)) ;; d
      (then
        (i32.store8 offset=20 (local.get $packet) (i32.const 1)) ;; DROP
        (i32.store16 offset=22 (local.get $packet) (i32.const 33)) ;; RATE_LIMITED
        (i32.store offset=24 (local.get $packet) (i32.const 4))
        (return)))
    (if (i32.eq (local.get $first) (i32.const 0x72)) ;; r
      (then
        (i32.store8 offset=21 (local.get $packet) (i32.const 2)) ;; RELEASE
        (return)))
    (i32.store8 offset=42 (local.get $frame) (i32.const 0x2a)) ;; *
    (i32.store8 offset=21 (local.get $packet) (i32.const 1)))) ;; REWRITTEN
