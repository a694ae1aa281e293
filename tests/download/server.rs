//! A hub for one test: a script says how each request is answered.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    /// The start of `Range: bytes=START-`.
    pub from: Option<usize>,
    /// What follows `Authorization:`.
    pub authorization: Option<String>,
}

/// One connection, to be answered.
pub struct Exchange {
    pub request: Request,
    stream: TcpStream,
}

impl Exchange {
    /// Sends a head. Write errors mean that the client has gone, which some tests are about.
    pub fn head(&mut self, status: &str, headers: &[(&str, String)]) {
        let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let _ = self.stream.write_all((head + "\r\n").as_bytes());
    }

    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
        let _ = self.stream.flush();
    }

    /// The whole file, whatever was asked for.
    pub fn whole(&mut self, body: &[u8]) {
        self.head("200 OK", &[("Content-Length", body.len().to_string())]);
        self.send(body);
    }

    /// What was asked for, as a good server does.
    pub fn proper(&mut self, body: &[u8]) {
        match self.request.from {
            None => self.whole(body),
            Some(from) if from >= body.len() => {
                self.head("416 Range Not Satisfiable", &[("Content-Length", "0".to_owned())]);
            }
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
                let length = (body.len() - from).to_string();
                self.head("206 Partial Content", &[("Content-Range", range), ("Content-Length", length)]);
                self.send(&body[from..]);
            }
        }
    }

    pub fn status(&mut self, status: &str) {
        self.head(status, &[("Content-Length", "0".to_owned())]);
    }

    /// Waits until the client hangs up.
    pub fn until_gone(&mut self) {
        use std::io::Read;
        while matches!(self.stream.read(&mut [0; 64]), Ok(n) if n > 0) {}
    }
}

pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` is called for each request with its number, from 0.
    pub fn start(answer: impl Fn(usize, &mut Exchange) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || {
                    let Some(request) = read_request(&stream) else { return };
                    let number = {
                        let mut log = log.lock().unwrap();
                        log.push(request.clone());
                        log.len() - 1
                    };
                    answer(number, &mut Exchange { request, stream });
                });
            }
        });
        Server { url, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The starts of the ranges asked for, in order.
    pub fn ranges(&self) -> Vec<Option<usize>> {
        self.requests().iter().map(|r| r.from).collect()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut request = Request { path, from: None, authorization: None };
    for line in lines.map_while(Result::ok).take_while(|l| !l.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_lowercase().as_str() {
            "range" => request.from = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(request)
}
