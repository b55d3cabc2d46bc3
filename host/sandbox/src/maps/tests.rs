use proptest::prelude::*;

use super::*;

fn map(capacity: u32, ttl_ns: u64) -> HostMap {
    HostMap::new(Shape {
        key_len: 2,
        value_len: 8,
        capacity,
        ttl: Duration::from_nanos(ttl_ns),
        touch: false,
        quota: None,
    })
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8),
    Remove(u8),
    Add(u8, i8),
    Exchange(u8, Option<u8>, u8),
    Sweep,
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..12u8, any::<u8>()).prop_map(|(k, v)| Step::Set(k, v)),
        (0..12u8).prop_map(Step::Remove),
        (0..12u8, any::<i8>()).prop_map(|(k, d)| Step::Add(k, d)),
        (0..12u8, any::<Option<u8>>(), any::<u8>()).prop_map(|(k, e, v)| Step::Exchange(k, e, v)),
        Just(Step::Sweep),
        (0..30u8).prop_map(Step::Wait),
    ]
}

fn wide(v: u8) -> [u8; 8] {
    u64::from(v).to_le_bytes()
}

proptest! {
    /// The map against a plain one that keeps expiry beside each value.
    #[test]
    fn it_behaves_as_a_plain_map_with_expiry(steps in prop::collection::vec(step(), 1..200)) {
        const TTL: u64 = 50;
        let map = map(1000, TTL);
        let mut plain: HashMap<u8, (u64, u64)> = HashMap::new();
        let mut now = 1;
        for step in steps {
            let alive = |plain: &HashMap<u8, (u64, u64)>, k: u8| {
                plain.get(&k).filter(|(_, expires)| *expires > now).map(|(v, _)| *v)
            };
            match step {
                Step::Set(k, v) => {
                    prop_assert_eq!(map.set(&[k, 0], &wide(v), now), Outcome::Done);
                    plain.insert(k, (v.into(), now + TTL));
                }
                Step::Remove(k) => {
                    let there = alive(&plain, k).is_some();
                    prop_assert_eq!(map.remove(&[k, 0], now) == Outcome::Done, there);
                    plain.remove(&k);
                }
                Step::Add(k, d) => {
                    let sum = alive(&plain, k).unwrap_or(0).wrapping_add_signed(d.into());
                    prop_assert_eq!(map.add(&[k, 0], d.into(), now), Ok(sum));
                    plain.insert(k, (sum, now + TTL));
                }
                Step::Exchange(k, expected, v) => {
                    let present = alive(&plain, k);
                    let wanted = expected.map(wide);
                    let outcome =
                        map.exchange(&[k, 0], wanted.as_ref().map(|w| &w[..]), &wide(v), now);
                    let same = present == expected.map(u64::from);
                    prop_assert_eq!(outcome == Outcome::Done, same);
                    if same {
                        plain.insert(k, (v.into(), now + TTL));
                    }
                }
                Step::Sweep => {
                    map.sweep(now);
                    plain.retain(|_, (_, expires)| *expires > now);
                    prop_assert_eq!(map.len() as usize, plain.len());
                }
                Step::Wait(n) => now += u64::from(n),
            }
            for k in 0..12 {
                let mut value = [0; 8];
                let found = map.get(&[k, 0], &mut value, now).then(|| u64::from_le_bytes(value));
                let expected = plain.get(&k).filter(|(_, e)| *e > now).map(|(v, _)| *v);
                prop_assert_eq!(found, expected);
            }
        }
    }
}

#[test]
fn a_full_map_refuses_new_keys_and_still_updates_old_ones() {
    let map = map(2, 0);
    assert_eq!(map.set(&[1, 0], &wide(1), 0), Outcome::Done);
    assert_eq!(map.set(&[2, 0], &wide(2), 0), Outcome::Done);
    assert_eq!(map.set(&[3, 0], &wide(3), 0), Outcome::Full);
    assert_eq!(map.add(&[3, 0], 1, 0), Err(Outcome::Full));
    assert_eq!(map.set(&[1, 0], &wide(9), 0), Outcome::Done);
    assert_eq!(map.len(), 2);
    assert_eq!(map.remove(&[1, 0], 0), Outcome::Done);
    assert_eq!(map.set(&[3, 0], &wide(3), 0), Outcome::Done);
}

#[test]
fn a_group_at_its_quota_takes_no_room_from_others() {
    let quota = NonZeroU32::new(2);
    let map = HostMap::new(Shape { quota, ..map(100, 10).shape });
    let [a, b] = [wide(1), wide(2)];
    assert_eq!(map.set(&[1, 0], &a, 0), Outcome::Done);
    assert_eq!(map.set(&[2, 0], &a, 0), Outcome::Done);
    assert_eq!(map.set(&[3, 0], &a, 0), Outcome::Full);
    assert_eq!(map.set(&[3, 0], &b, 0), Outcome::Done);
    assert_eq!(map.set(&[3, 0], &a, 0), Outcome::Full, "nor by moving");
    assert_eq!(map.set(&[1, 0], &b, 0), Outcome::Done, "a move makes room where it leaves");
    assert_eq!(map.set(&[4, 0], &a, 0), Outcome::Done);
    map.sweep(10);
    assert!(map.is_empty());
    assert_eq!(map.set(&[5, 0], &a, 10), Outcome::Done, "and so does death");
    assert_eq!(map.remove(&[5, 0], 10), Outcome::Done);
    assert!(map.groups.lock().is_empty());
}

#[test]
fn reading_renews_an_entry_only_in_a_map_opened_to_touch() {
    for touch in [false, true] {
        let map = HostMap::new(Shape { touch, ..map(8, 10).shape });
        map.set(&[1, 0], &wide(1), 0);
        let mut value = [0; 8];
        assert!(map.get(&[1, 0], &mut value, 8));
        assert_eq!(map.get(&[1, 0], &mut value, 15), touch);
    }
}

#[test]
fn a_look_renews_nothing() {
    let map = HostMap::new(Shape { touch: true, ..map(8, 10).shape });
    map.set(&[1, 0], &wide(1), 0);
    let mut value = [0; 8];
    assert!(map.peek(&[1, 0], &mut value, 9));
    assert_eq!(value, wide(1));
    assert!(!map.peek(&[1, 0], &mut value, 10));
}

#[test]
fn one_name_has_one_shape_until_its_owner_is_forgotten() {
    let registry = MapRegistry::default();
    let name = MapName { owner: Some("bridge".into()), name: "stations".to_owned() };
    let shape = map(8, 0).shape;
    let first = registry.open(name.clone(), shape).expect("a new name takes any shape");
    let again = registry.open(name.clone(), shape).expect("the same shape opens it again");
    assert!(Arc::ptr_eq(&first, &again));
    let other = Shape { key_len: 3, ..shape };
    assert_eq!(registry.open(name.clone(), other).expect_err("the shape differs"), shape);
    registry.forget("bridge");
    assert!(registry.open(name, other).is_ok());
}

#[test]
fn what_is_over_for_other_reasons_leaves_its_group_too() {
    let map = HostMap::new(Shape { quota: NonZeroU32::new(2), ..map(10, 0).shape() });
    let value = |group: u8, rest: u8| [group, 0, rest, 0, 0, 0, 0, 0];
    for key in 0..2 {
        assert_eq!(map.set(&[key, 0], &value(1, key), 1), Outcome::Done);
        assert_eq!(map.set(&[key, 1], &value(2, key), 1), Outcome::Done);
    }
    assert_eq!(map.set(&[9, 0], &value(1, 9), 1), Outcome::Full);

    map.remove_if(|_, value| value[0] == 1);
    let mut left: Vec<_> = map.entries(1).into_iter().map(|entry| entry.key).collect();
    left.sort();
    assert_eq!(left, [[0, 1], [1, 1]]);
    assert_eq!(map.set(&[9, 0], &value(1, 9), 1), Outcome::Done);
}
