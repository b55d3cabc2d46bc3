;; A filter that floods everything.
(module
  (@custom "millrace"
    "{\"abi\":1,\"name\":\"way\",\"hooks\":[\"flow\"],\"capabilities\":[\"redirect\"]}")

  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 16))

  (func (export "millrace_alloc") (param $len i32) (result i32)
    (global.get $free)
    (global.set $free
      (i32.and
        (i32.add (i32.add (global.get $free) (local.get $len)) (i32.const 15)) (i32.const -16))))

  (func (export "millrace_configure") (param $json i32) (param $len i32) (result i32)
    (i32.const 0))

  (func (export "millrace_flow")
    (param $slot i32) (param $decision i32) (param $n i32) (result i32)
    (loop $next
      (i32.store16 offset=2 (local.get $decision) (i32.const 2)) ;; fields: FLOOD
      (local.set $decision (i32.add (local.get $decision) (i32.const 128)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n)))
    (i32.const 0)))
