;; A filter that fails whenever it is asked about a new connection, and nowhere else.
(module
  (@custom "millrace" "{\"abi\":1,\"name\":\"trap\",\"hooks\":[\"flow\"]}")

  (memory (export "memory") 4)
  (global $free (mut i32) (i32.const 16))

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
    (i32.const 0))

  (func $trapdoor unreachable)

  (func (export "millrace_flow") (param i32 i32 i32) (result i32)
    (call $trapdoor)
    (i32.const 0)))
