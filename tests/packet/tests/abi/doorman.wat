;; SPDX-License-Identifier: Apache-2.0
;;
;; A doorman, written from ABI.md alone. He lets each source open so many flows within ten seconds,
;; sends packets away that have come too far, lets all others in by every door, and answers who
;; asks for the gateway by ARP.
;;
;; Configuration: {"limit": N}, 1 to 65535; 3 if there is no number in it.
(module
  (@custom "millrace"
    "{\"abi\":1,\"name\":\"doorman\",\"version\":\"0.1.0\",\"description\":\"Counts who comes in.\","
    "\"hooks\":[\"flow\",\"packet\",\"tick\"],\"classes\":[\"arp\"],\"snap\":100,"
    "\"capabilities\":[\"drop\",\"redirect\",\"inspect\",\"emit\"],"
    "\"config\":{\"type\":\"object\",\"properties\":{\"limit\":{\"type\":\"integer\"}}},"
    "\"rules\":[{\"id\":1,\"name\":\"too-many\",\"help\":\"The source opens too many flows.\"},"
    "{\"id\":2,\"name\":\"too-far\"},{\"id\":3,\"name\":\"gateway\"}],"
    "\"maps\":[{\"name\":\"guests\",\"key\":[{\"name\":\"source\",\"type\":\"ip\"}],"
    "\"value\":[{\"name\":\"flows\",\"type\":\"u64\"}]}]}")

  (import "millrace" "log" (func $log (param i32 i32 i32)))
  (import "millrace" "fail" (func $fail (param i32 i32)))
  (import "millrace" "metric" (func $metric (param i32 i32 i32 i32) (result i32)))
  (import "millrace" "map_open" (func $map_open (param i32 i32 i32) (result i32)))
  (import "millrace" "map_add" (func $map_add (param i32 i32 i64 i32) (result i32)))

  ;; buffers need 204800 bytes, and the rest is for the configuration
  (memory (export "memory") 4)

  ;;   16  sum that map_add writes     64  histogram, 264 bytes
  ;;   24  counter of those turned away   336  shape of the map
  ;;   32  gauge of ticks             368  the gateway's MAC and IPv4 addresses
  (data (i32.const 336)
    "\10\00\00\00" "\08\00\00\00" "\00\04\00\00" "\10\27\00\00" ;; 16, 8, 1024 entries, 10 s
    "\00\00\00\00" "\00\00\00\00" "\00\00\00\00\00\00\00\00")
  (data (i32.const 368) "\02\00\0a\00\00\fe" "\0a\00\00\fe")
  (data (i32.const 400) "guests")
  (data (i32.const 406) "turned_away")
  (data (i32.const 417) "ticks")
  (data (i32.const 422) "lengths")
  (data (i32.const 429) "`limit`: must be 1 to 65535")
  (data (i32.const 456) "on duty")
  (data (i32.const 463) "a metric is refused")

  (global $free (mut i32) (i32.const 512))
  (global $limit (mut i32) (i32.const 0))
  (global $guests (mut i32) (i32.const 0))

  (func (export "millrace_alloc") (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $free))
    (global.set $free
      (i32.and (i32.add (i32.add (local.get $at) (local.get $len)) (i32.const 15)) (i32.const -16)))
    (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
      (then (return (i32.const 0))))
    (local.get $at))

  (func (export "millrace_configure") (param $json i32) (param $len i32) (result i32)
    (global.set $free (local.get $json))
    (global.set $limit (call $number (local.get $json) (local.get $len)))
    (if (i32.gt_u (i32.sub (global.get $limit) (i32.const 1)) (i32.const 65534))
      (then
        (call $fail (i32.const 429) (i32.const 27))
        (return (i32.const 1))))

    (global.set $guests (call $map_open (i32.const 400) (i32.const 6) (i32.const 336)))
    (if (i32.lt_s (global.get $guests) (i32.const 0))
      (then (return (i32.const 1)))) ;; the host says why

    (memory.fill (i32.const 24) (i32.const 0) (i32.const 304)) ;; every metric
    (if
      (i32.ne (i32.const 3)
        (i32.add
          (i32.add
            (call $metric (i32.const 1) (i32.const 406) (i32.const 11) (i32.const 24))
            (call $metric (i32.const 2) (i32.const 417) (i32.const 5) (i32.const 32)))
          (call $metric (i32.const 3) (i32.const 422) (i32.const 7) (i32.const 64))))
      (then
        (call $fail (i32.const 463) (i32.const 19))
        (return (i32.const 1))))

    (call $log (i32.const 3) (i32.const 456) (i32.const 7))
    (i32.const 0))

  ;; The first number in a text; 3 if there is none, and 65536 if it is larger than that.
  (func $number (param $at i32) (param $len i32) (result i32)
    (local $end i32) (local $digit i32) (local $seen i32) (local $value i32)
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
        (if (i32.le_u (local.get $digit) (i32.const 9))
          (then
            (local.set $seen (i32.const 1))
            (local.set $value
              (i32.add (i32.mul (local.get $value) (i32.const 10)) (local.get $digit)))
            (if (i32.gt_u (local.get $value) (i32.const 65535))
              (then (return (i32.const 65536)))))
          (else (br_if $done (local.get $seen))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (select (local.get $value) (i32.const 3) (local.get $seen)))

  (func (export "millrace_flow")
    (param $slot i32) (param $decision i32) (param $n i32) (result i32)
    (loop $next
      (call $observe (i32.load offset=120 (local.get $slot))) ;; len
      (call $decide (local.get $slot) (local.get $decision))
      (local.set $slot (i32.add (local.get $slot) (i32.const 128)))
      (local.set $decision (i32.add (local.get $decision) (i32.const 128)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n)))
    (i32.const 0))

  (func $decide (param $slot i32) (param $decision i32)
    ;; an IP packet that has been through too many hands; the next one of the flow may be better
    (if
      (i32.and
        (i32.ne (i32.load8_u offset=36 (local.get $slot)) (i32.const 0)) ;; ip_version
        (i32.lt_u (i32.load8_u offset=38 (local.get $slot)) (i32.const 2))) ;; ttl
      (then
        (call $drop (local.get $decision) (i32.const 32) (i32.const 2)) ;; DENIED
        (i32.store16 offset=2 (local.get $decision) (i32.const 0x400)) ;; fields: ONCE
        (return)))

    ;; a flow: one more of its source's, while there is room to count them
    (if (i32.eqz (i32.load8_u offset=60 (local.get $slot))) ;; class: FLOW
      (then
        (if
          (i32.and
            (i32.eq (i32.const 1) ;; MAP_OK
              (call $map_add
                (global.get $guests) (local.get $slot) (i64.const 1) (i32.const 16)))
            (i64.gt_u (i64.load (i32.const 16)) (i64.extend_i32_u (global.get $limit))))
          (then
            (call $drop (local.get $decision) (i32.const 33) (i32.const 1)) ;; RATE_LIMITED
            (i32.store16 offset=2 (local.get $decision) (i32.const 0x200)) ;; fields: REVALIDATE
            (i32.store offset=24 (local.get $decision) (i32.const 1000)) ;; revalidate_ms
            (return)))))

    (i32.store16 offset=2 (local.get $decision) (i32.const 0x2))) ;; fields: FLOOD

  (func $drop (param $decision i32) (param $reason i32) (param $rule i32)
    (i32.store8 offset=0 (local.get $decision) (i32.const 1)) ;; control: DROP
    (i32.store16 offset=4 (local.get $decision) (local.get $reason))
    (i32.store offset=8 (local.get $decision) (local.get $rule))
    (i64.store (i32.const 24) (i64.add (i64.load (i32.const 24)) (i64.const 1))))

  ;; Counts a length in the histogram.
  (func $observe (param $len i32)
    (local $bucket i32)
    (local.set $bucket (i32.sub (i32.const 32) (i32.clz (local.get $len))))
    (local.set $bucket
      (select
        (local.get $bucket) (i32.const 31) (i32.lt_u (local.get $bucket) (i32.const 31))))
    (local.set $bucket (i32.shl (local.get $bucket) (i32.const 3)))
    (i64.store offset=64 (local.get $bucket)
      (i64.add (i64.load offset=64 (local.get $bucket)) (i64.const 1)))
    (i64.store (i32.const 320) ;; 64 + 32 * 8
      (i64.add (i64.load (i32.const 320)) (i64.extend_i32_u (local.get $len)))))

  (func (export "millrace_packet")
    (param $slots i32) (param $packet i32) (param $n i32) (result i32)
    (loop $next
      (call $answer (local.get $packet) (i32.load offset=0 (local.get $packet))) ;; data
      (local.set $packet (i32.add (local.get $packet) (i32.const 32)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n)))
    (i32.const 0))

  ;; Answers a request for the gateway. Only ARP comes here, and it is whole; it may have a tag.
  (func $answer (param $packet i32) (param $frame i32)
    (local $arp i32)
    (local.set $arp (i32.add (local.get $frame) (i32.const 14)))
    (if (i32.ne (i32.load16_u offset=12 (local.get $frame)) (i32.const 0x0608))
      (then (local.set $arp (i32.add (local.get $frame) (i32.const 18)))))
    (if
      (i32.or
        (i32.ne (i32.load16_u offset=6 (local.get $arp)) (i32.const 0x0100)) ;; request
        (i32.ne (i32.load offset=24 (local.get $arp)) (i32.load (i32.const 374)))) ;; target
      (then (return)))

    (memory.copy (local.get $frame) (i32.add (local.get $frame) (i32.const 6)) (i32.const 6))
    (memory.copy (i32.add (local.get $frame) (i32.const 6)) (i32.const 368) (i32.const 6))
    (i32.store16 offset=6 (local.get $arp) (i32.const 0x0200)) ;; reply
    (memory.copy
      (i32.add (local.get $arp) (i32.const 18)) (i32.add (local.get $arp) (i32.const 8))
      (i32.const 10))
    (memory.copy (i32.add (local.get $arp) (i32.const 8)) (i32.const 368) (i32.const 10))
    (i32.store8 offset=20 (local.get $packet) (i32.const 2)) ;; verdict: ANSWER
    (i32.store offset=24 (local.get $packet) (i32.const 3))) ;; rule

  (func (export "millrace_tick") (param $now i64) (result i32)
    (i64.store (i32.const 32) (i64.add (i64.load (i32.const 32)) (i64.const 1)))
    (i32.const 0)))
