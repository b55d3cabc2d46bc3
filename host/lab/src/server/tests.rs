use std::io::{BufRead, BufReader, Read};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use super::*;

/// Starts a service on a port that nobody else has, and says which. A port that was free a moment
/// ago may be a client's by now.
fn start(service: fn(u16) -> Service) -> u16 {
    for _ in 0..100 {
        let free = UdpSocket::bind("[::]:0").and_then(|socket| socket.local_addr());
        let port = free.expect("a socket").port();
        match service(port).start("shop/web") {
            Ok(()) => return port,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => panic!("{} does not start: {error}", service(port)),
        }
    }
    panic!("of a hundred free ports none stayed free");
}

#[test]
fn lines_are_echoed_with_the_names_of_both_ends() {
    let port = start(Service::TcpEcho);
    for ip in ["127.0.0.1", "::1"] {
        let ip: IpAddr = ip.parse().unwrap();
        let mut stream = TcpStream::connect((ip, port)).unwrap();
        let client = stream.local_addr().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for said in ["hello", "", "again"] {
            stream.write_all(format!("{said}\n").as_bytes()).unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), format!("shop/web {client} {said}"));
        }
    }
}

#[test]
fn datagrams_are_echoed_from_the_address_that_was_asked() {
    let port = start(Service::UdpEcho);
    for (from, to) in [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.2"), ("::1", "::1")] {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let client = UdpSocket::bind((from, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.send_to(b"hello", (to, port)).unwrap();
        let mut buffer = [0; 100];
        let (length, server) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(server, SocketAddr::from((to, port)));
        let wanted = format!("shop/web {} hello", client.local_addr().unwrap());
        assert_eq!(str::from_utf8(&buffer[..length]), Ok(wanted.as_str()));
    }
}

#[test]
fn a_page_has_the_name_of_the_pod_or_the_address_of_the_client() {
    let port = start(Service::Http);
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, page) = answer.split_once("\r\n\r\n").unwrap();
        let client = stream.local_addr().unwrap().to_string();
        (head.lines().next().unwrap().to_owned(), page.to_owned(), client)
    };
    let (status, page, _) = ask("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!((status.as_str(), page.as_str()), ("HTTP/1.1 200 OK", "shop/web\n"));
    let (_, page, client) = ask("GET /clientip HTTP/1.1\r\n\r\n");
    assert_eq!(page, client + "\n");
    let (status, page, _) = ask("HEAD / HTTP/1.1\r\n\r\n");
    assert_eq!((status.as_str(), page.as_str()), ("HTTP/1.1 200 OK", ""));
    let (status, ..) = ask("POST / HTTP/1.1\r\n\r\n");
    assert_eq!(status, "HTTP/1.1 405 Method Not Allowed");
}

#[test]
fn services_read_back_as_they_are_written() {
    for service in Service::OWN {
        assert_eq!(service.to_string().parse(), Ok(service));
    }
    for text in ["", "echo", "echo:", "echo:65536", "tcp:7"] {
        assert!(text.parse::<Service>().unwrap_err().contains("is no service"), "{text}");
    }
}
