;; A filter that says what the packet wants it to, right or wrong.
(module
  (@custom "millrace"
    "{\"abi\":1,\"name\":\"puppet\",\"hooks\":[\"flow\",\"packet\"],\"snap\":256,\"classes\":[\"arp\",\"nd\",\"icmp\",\"fragment\",\"other-ip\",\"non-ip\"],\"capabilities\":[\"drop\",\"reject\",\"redirect\",\"translate\",\"inspect\",\"rewrite\",\"emit\"]}")

  (memory (export "memory") 8)
  (global $free (mut i32) (i32.const 16))

  (func (export "millrace_alloc") (param $len i32) (result i32)
    (global.get $free)
    (global.set $free
      (i32.and
        (i32.add (i32.add (global.get $free) (local.get $len)) (i32.const 15)) (i32.const -16))))

  (func (export "millrace_configure") (param $json i32) (param $len i32) (result i32)
    (i32.const 0))

  ;; the source MAC address, from its second octet on: egress, fields, inspect, control
  (func (export "millrace_flow")
    (param $slot i32) (param $decision i32) (param $n i32) (result i32)
    (loop $next
      (i32.store16 offset=6 (local.get $decision) (i32.load8_u offset=41 (local.get $slot)))
      (i32.store16 offset=2 (local.get $decision) (i32.load16_u offset=42 (local.get $slot)))
      (i32.store16 offset=12 (local.get $decision) (i32.load8_u offset=44 (local.get $slot)))
      (i32.store8 offset=0 (local.get $decision) (i32.load8_u offset=45 (local.get $slot)))
      (local.set $slot (i32.add (local.get $slot) (i32.const 128)))
      (local.set $decision (i32.add (local.get $decision) (i32.const 128)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n)))
    (i32.const 0))

  ;; the last octets of what is shown: where to write what, the new length, the reason, flags,
  ;; verdict
  (func (export "millrace_packet")
    (param $slots i32) (param $packet i32) (param $n i32) (result i32)
    (local $data i32) (local $end i32)
    (loop $next
      (local.set $data (i32.load (local.get $packet)))
      (local.set $end
        (i32.sub (i32.add (local.get $data) (i32.load offset=4 (local.get $packet))) (i32.const 8)))
      (i32.store offset=28 (local.get $packet) (i32.load16_u offset=2 (local.get $end)))
      (i32.store16 offset=22 (local.get $packet) (i32.load16_u offset=4 (local.get $end)))
      (i32.store8 offset=21 (local.get $packet) (i32.load8_u offset=6 (local.get $end)))
      (i32.store8 offset=20 (local.get $packet) (i32.load8_u offset=7 (local.get $end)))
      (i32.store8
        (i32.add (local.get $data) (i32.load8_u (local.get $end)))
        (i32.load8_u offset=1 (local.get $end)))
      (local.set $packet (i32.add (local.get $packet) (i32.const 32)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n)))
    (i32.const 0)))
