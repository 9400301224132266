//! Tests of who gets a place, and of who waits.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::domain::values::client_address::ForwardedHeaders;

type Taking = Pin<Box<dyn Future<Output = Result<Place>>>>;

fn taking(places: &Places, asker: Asker, weight: u32) -> Taking {
    let places = places.clone();
    Box::pin(async move { places.take(asker, weight).await })
}

/// The place, if it has come.
fn poll(taking: &mut Taking) -> Option<Place> {
    match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(place) => Some(place.unwrap_or_else(|error| panic!("{error:?}"))),
        Poll::Pending => None,
    }
}

fn take(places: &Places, asker: Asker) -> Place {
    poll(&mut taking(places, asker, 1)).expect("a place is free")
}

fn refused(places: &Places, asker: Asker) -> Reason {
    match taking(places, asker, 1).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(error)) => error.reason(),
        _ => panic!("{asker:?} may wait"),
    }
}

fn org(n: u128) -> OrgId {
    OrgId::from_u128(n)
}

fn stranger(address: &str) -> Asker {
    let address = address.parse().unwrap();
    Asker::Stranger(ClientAddress::of_request(address, &ForwardedHeaders::default(), &[]))
}

#[test]
fn the_parts() {
    for (all, known, strangers, setting) in [
        (1, 1, 1, 1),
        (2, 1, 1, 1),
        (3, 1, 1, 1),
        (4, 2, 1, 1),
        (6, 3, 2, 1),
        (12, 5, 4, 3),
        (60, 25, 20, 15),
    ] {
        let places = Places::new(all);
        let most = places.lock().parts.each_ref().map(|part| part.most);
        assert_eq!(most, [known, strangers, setting], "{all}");
        assert!(all < 3 || most.iter().sum::<u32>() == all, "{all}");
    }
}

#[test]
fn no_part_takes_a_place_of_another() {
    let places = Places::new(6);
    let _setting = take(&places, Asker::Setting(org(1)));
    let mut more: Vec<_> = (0..16).map(|_| taking(&places, Asker::Setting(org(1)), 1)).collect();
    assert!(more.iter_mut().all(|taking| poll(taking).is_none()));
    assert_eq!(refused(&places, Asker::Setting(org(1))), Reason::Overloaded);
    let _strangers = [take(&places, stranger("192.0.2.1")), take(&places, stranger("192.0.2.2"))];
    let mut more_strangers = taking(&places, stranger("192.0.2.3"), 1);
    assert!(poll(&mut more_strangers).is_none(), "strangers have one part");
    // Those that are known find their places free, of that org and of another one.
    let _known = [1, 1, 2].map(|n| take(&places, Asker::Known(org(n))));
    assert_eq!(places.free(), 0);
}

#[test]
fn orgs_take_turns() {
    for setting in [false, true] {
        let asker = |n| if setting { Asker::Setting(org(n)) } else { Asker::Known(org(n)) };
        let places = Places::new(3);
        let held = take(&places, asker(1));
        let mut first: Vec<_> = (0..16).map(|_| taking(&places, asker(1), 1)).collect();
        first.iter_mut().for_each(|taking| assert!(poll(taking).is_none()));
        assert_eq!(refused(&places, asker(1)), Reason::Overloaded);
        let mut other = taking(&places, asker(2), 1);
        assert!(poll(&mut other).is_none());
        assert!(!held.more_wait());
        drop(held);
        let held = poll(&mut first[0]).expect("it came before");
        assert!(poll(&mut other).is_none() && held.more_wait());
        drop(held);
        let held = poll(&mut other).expect("its turn is before the second of the other org");
        assert!(first[1..].iter_mut().all(|taking| poll(taking).is_none()) && !held.more_wait());
        drop(held);
        assert!(poll(&mut first[1]).is_some());
    }
}

#[test]
fn networks_of_strangers_take_turns() {
    let places = Places::new(3);
    let held = take(&places, stranger("2001:db8::1"));
    // Each from a host network of its own, all in one site.
    let mut many: Vec<_> =
        (0..16).map(|n| taking(&places, stranger(&format!("2001:db8:0:{n:x}::1")), 1)).collect();
    many.iter_mut().for_each(|taking| assert!(poll(taking).is_none()));
    assert_eq!(refused(&places, stranger("2001:db8:0:ffff::1")), Reason::Overloaded);
    let mut other = taking(&places, stranger("2001:db8:1::1"), 1);
    assert!(poll(&mut other).is_none());
    drop(held);
    drop(poll(&mut many[0]).expect("it came before"));
    assert!(poll(&mut other).is_some());
    // All whose address is not known are one.
    let unknown = Asker::Stranger(ClientAddress::UNKNOWN);
    assert_eq!(unknown.turn(), stranger("127.0.0.1").turn());
    assert_ne!(unknown.turn(), stranger("192.0.2.1").turn());
}

#[test]
fn so_many_strangers_may_wait_and_no_more() {
    let places = Places::new(3);
    let _held = take(&places, stranger("192.0.2.1"));
    let mut waiting: Vec<_> =
        (0..MAX_STRANGERS).map(|n| taking(&places, stranger(&format!("198.51.{n}.1")), 1)).collect();
    waiting.iter_mut().for_each(|taking| assert!(poll(taking).is_none()));
    assert!(!places.have_room(stranger("203.0.113.1")));
    assert_eq!(refused(&places, stranger("203.0.113.1")), Reason::Overloaded);
    assert!(places.have_room(Asker::Known(org(1))) && places.have_room(Asker::Setting(org(1))));
    // One that has given up leaves its place in the queue.
    waiting.pop();
    assert!(places.have_room(stranger("203.0.113.1")));
}

#[test]
fn networks_that_fill_the_queue_give_way_to_others() {
    let places = Places::new(3);
    let held = take(&places, stranger("192.0.2.1"));
    let mut greedy: Vec<_> = (0..MAX_STRANGERS)
        .map(|n| taking(&places, stranger(&format!("198.51.100.{}", n / MAX_WAITING)), 1))
        .collect();
    greedy.iter_mut().for_each(|taking| assert!(poll(taking).is_none()));
    let (one, two) = (stranger("203.0.113.1"), stranger("203.0.113.2"));
    assert!(places.have_room(one));
    let mut others = [taking(&places, one, 1), taking(&places, two, 1)];
    others.iter_mut().for_each(|taking| assert!(poll(taking).is_none()));
    assert_eq!(places.waiting(), MAX_STRANGERS);
    // Of two networks the newest one gave way, and none that came before it.
    let mut gone = 0;
    for (n, taking) in greedy.iter_mut().enumerate() {
        match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => {}
            Poll::Ready(Ok(_)) => panic!("no place is free"),
            Poll::Ready(Err(error)) => {
                assert_eq!((error.reason(), n % MAX_WAITING), (Reason::Overloaded, MAX_WAITING - 1));
                gone += 1;
            }
        }
    }
    assert_eq!(gone, 2);
    // Those that have most make no room for themselves.
    assert_eq!(refused(&places, stranger("198.51.100.0")), Reason::Overloaded);
    drop((held, greedy));
    assert!(others.iter_mut().all(|taking| poll(taking).is_some()));
    assert_eq!((places.waiting(), places.free()), (0, 3));
}

#[test]
fn of_few_places_the_parts_take_turns() {
    let places = Places::new(1);
    let held = take(&places, stranger("192.0.2.1"));
    let mut strangers: Vec<_> = (0..9).map(|_| taking(&places, stranger("192.0.2.1"), 1)).collect();
    strangers.iter_mut().for_each(|taking| assert!(poll(taking).is_none()));
    let (mut known, mut setting) =
        (taking(&places, Asker::Known(org(1)), 1), taking(&places, Asker::Setting(org(1)), 1));
    assert!(poll(&mut known).is_none() && poll(&mut setting).is_none());
    drop(held);
    drop(poll(&mut setting).expect("after strangers"));
    drop(poll(&mut known).expect("after that"));
    assert!(poll(&mut strangers[0]).is_some());
}

#[test]
fn one_that_gives_up_takes_no_place() {
    let places = Places::new(3);
    let held = take(&places, Asker::Known(org(1)));
    let mut gone = taking(&places, Asker::Known(org(1)), 1);
    let mut next = taking(&places, Asker::Known(org(1)), 1);
    assert!(poll(&mut gone).is_none() && poll(&mut next).is_none());
    assert_eq!(places.waiting(), 2);
    drop(gone);
    drop(held);
    // It was granted, and is dropped before it was seen.
    assert_eq!((places.waiting(), places.free()), (0, 2));
    drop(next);
    assert_eq!(places.free(), 3);
    take(&places, Asker::Known(org(1)));
}

#[test]
fn one_that_takes_more_is_not_overtaken() {
    let places = Places::new(4);
    let held = take(&places, stranger("192.0.2.1"));
    let mut heavy = taking(&places, Asker::Known(org(1)), 9);
    assert!(poll(&mut heavy).is_none(), "it takes all of them");
    let mut light = taking(&places, Asker::Known(org(2)), 1);
    assert!(poll(&mut light).is_none());
    drop(held);
    let held = poll(&mut heavy).expect("its turn");
    assert_eq!(places.free(), 0);
    drop(held);
    assert!(poll(&mut light).is_some());
}
