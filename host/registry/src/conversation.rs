//! Requests to one registry, about one of its repositories, as the OCI's distribution specification has
//! them.
//!
//! Owns where requests go: over TLS alone unless the registry itself is asked without, to others only
//! where a registry sends to, so many times and without credentials. Each step has its time, and each
//! answer its size.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT,
    WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use millrace_control::image::ImageName;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::time::timeout;

use crate::Registries;
use crate::address;
use crate::challenge::{Challenge, TokenQuestion, encoded};
use crate::credentials::Credentials;
use crate::error::{RegistryError, printable};
use crate::manifest::{INDEX, MANIFEST};

/// A registry that is asked about a repository.
pub(crate) struct Conversation<'r> {
    registries: &'r Registries,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    name: &'r ImageName,
    /// Where it is.
    authority: String,
    repository: String,
    rights: Rights,
    is_plain: bool,
    /// What it wants to hear with each request.
    authorization: Option<HeaderValue>,
    /// Whether that is by credentials which are known for it.
    has_credentials: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// To have what is there.
    Pull,
    /// To have it keep something.
    Push,
}

/// What is said along with a request.
#[derive(Clone, Default)]
struct Words {
    headers: Vec<(HeaderName, &'static str)>,
    body: Bytes,
}

impl<'r> Conversation<'r> {
    /// With the registry of this name; nothing is said yet.
    pub(crate) fn open(
        registries: &'r Registries,
        name: &'r ImageName,
        rights: Rights,
    ) -> Result<Self, RegistryError> {
        let is_plain = registries.are_plain(&name.registry);
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(registries, is_plain)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        // Docker's own has another name for what listens there, and names that it takes for granted
        let (authority, repository) = match &*name.registry {
            "docker.io" if !name.repository.contains('/') => {
                (DOCKER, format!("library/{}", name.repository))
            }
            "docker.io" => (DOCKER, name.repository.clone()),
            other => (other, name.repository.clone()),
        };
        Ok(Self {
            registries,
            client: Client::builder(TokioExecutor::new()).build(connector),
            name,
            authority: authority.to_owned(),
            repository,
            rights,
            is_plain,
            authorization: None,
            has_credentials: false,
        })
    }

    /// A manifest, as it is there.
    pub(crate) async fn manifest(&mut self, digest: &str) -> Result<Vec<u8>, RegistryError> {
        let headers = vec![(ACCEPT, MANIFEST), (ACCEPT, INDEX)];
        let words = Words { headers, ..Words::default() };
        let uri = self.about(&format!("manifests/{digest}"))?;
        let response = self.follow(Method::GET, uri, words).await?;
        let response = self.expect(response, StatusCode::OK, &format!("image {digest}")).await?;
        self.read(response, MAX_MANIFEST, "its manifest").await
    }

    /// What a manifest names, of so many bytes at most.
    pub(crate) async fn blob(
        &mut self,
        digest: &str,
        most: usize,
    ) -> Result<Vec<u8>, RegistryError> {
        let uri = self.about(&format!("blobs/{digest}"))?;
        let response = self.follow(Method::GET, uri, Words::default()).await?;
        let response = self.expect(response, StatusCode::OK, &format!("layer {digest}")).await?;
        self.read(response, most, &format!("layer {digest}")).await
    }

    /// Has it keep something that a manifest is to name, unless it has that.
    pub(crate) async fn keep_blob(
        &mut self,
        digest: &str,
        bytes: Vec<u8>,
    ) -> Result<(), RegistryError> {
        let uri = self.about(&format!("blobs/{digest}"))?;
        let there = self.follow(Method::HEAD, uri, Words::default()).await?;
        if there.status() == StatusCode::OK {
            return Ok(());
        }
        let uri = self.about("blobs/uploads/")?;
        let response = self.ask(&Method::POST, &uri, &Words::default()).await?;
        let response = self.expect(response, StatusCode::ACCEPTED, "such repository").await?;
        let place = self
            .location(&uri, response.headers())?
            .ok_or_else(|| self.astray("nowhere", "it was to say where it takes an upload"))?;
        let mark = if place.query().is_some() { '&' } else { '?' };
        let place = self.uri(&format!("{place}{mark}digest={}", encoded(digest)))?;
        let words =
            Words { headers: vec![(CONTENT_TYPE, "application/octet-stream")], body: bytes.into() };
        let response = self.ask(&Method::PUT, &place, &words).await?;
        self.expect(response, StatusCode::CREATED, "upload").await.map(drop)
    }

    /// Has it keep a manifest, under a tag or its digest.
    pub(crate) async fn keep_manifest(
        &mut self,
        reference: &str,
        manifest: Vec<u8>,
    ) -> Result<(), RegistryError> {
        let uri = self.about(&format!("manifests/{reference}"))?;
        let words = Words { headers: vec![(CONTENT_TYPE, MANIFEST)], body: manifest.into() };
        let response = self.ask(&Method::PUT, &uri, &words).await?;
        self.expect(response, StatusCode::CREATED, "such repository").await.map(drop)
    }

    /// It has given something else than was wanted.
    pub(crate) fn another(&self, wanted: &str, found: String) -> RegistryError {
        RegistryError::Another { registry: self.registry(), wanted: wanted.to_owned(), found }
    }

    /// Asks, and goes where it is sent to.
    async fn follow(
        &mut self,
        method: Method,
        uri: Uri,
        words: Words,
    ) -> Result<Response<Incoming>, RegistryError> {
        let mut uri = uri;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.ask(&method, &uri, &words).await?;
            let next = match response.status().is_redirection() {
                true => self.location(&uri, response.headers())?,
                false => None,
            };
            match next {
                Some(next) => uri = next,
                None => return Ok(response),
            }
        }
        Err(self.astray(&uri.to_string(), "it was sent on too often"))
    }

    /// Asks, and says who asks if the registry wants to know.
    async fn ask(
        &mut self,
        method: &Method,
        uri: &Uri,
        words: &Words,
    ) -> Result<Response<Incoming>, RegistryError> {
        let is_its_own = uri.authority().is_some_and(|it| it.as_str() == self.authority);
        let authorization = self.authorization.clone().filter(|_| is_its_own);
        let response = self.send(method, uri, words, authorization).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !is_its_own {
            return Ok(response);
        }
        let authorization = self.authorize(&response).await?;
        self.authorization = Some(authorization.clone());
        self.send(method, uri, words, Some(authorization)).await
    }

    async fn send(
        &self,
        method: &Method,
        uri: &Uri,
        words: &Words,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let request = Request::builder().method(method).uri(uri).header(USER_AGENT, AGENT);
        let request = words.headers.iter().fold(request, |it, (key, value)| it.header(key, *value));
        let mut request = request
            .body(Full::new(words.body.clone()))
            .map_err(|_| self.astray(&uri.to_string(), "that is no address"))?;
        if let Some(value) = authorization {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let host = uri.authority().map_or_else(|| self.registry(), ToString::to_string);
        // what is sent takes time, too
        let patience = PATIENCE + EACH_OCTET * words.body.len() as u32;
        match timeout(patience, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(RegistryError::unreachable(&host, &error)),
            Err(_) => Err(RegistryError::Silent { registry: host, seconds: patience.as_secs() }),
        }
    }

    /// What the registry wants to hear, as it says.
    async fn authorize(
        &mut self,
        refusal: &Response<Incoming>,
    ) -> Result<HeaderValue, RegistryError> {
        let asked = refusal.headers().get_all(WWW_AUTHENTICATE).into_iter();
        let asked: Vec<_> = asked.filter_map(|it| it.to_str().ok()).collect();
        let asked = asked.join(", ");
        let credentials = match &self.registries.credentials {
            Some(path) => Credentials::find(path, &self.name.registry, &self.repository)?,
            None => None,
        };
        self.has_credentials = credentials.is_some();
        match Challenge::read(&asked) {
            Some(Challenge::Basic) => {
                let anonymous = || RegistryError::Anonymous { registry: self.registry() };
                Ok(basic(&credentials.ok_or_else(anonymous)?))
            }
            Some(Challenge::Bearer(question)) => self.token(&question, credentials.as_ref()).await,
            None => {
                let asked = printable(&asked);
                Err(RegistryError::Challenge { registry: self.registry(), asked })
            }
        }
    }

    /// A token from whom the registry takes one, as it wants to hear it.
    async fn token(
        &self,
        question: &TokenQuestion,
        credentials: Option<&Credentials>,
    ) -> Result<HeaderValue, RegistryError> {
        let actions = match self.rights {
            Rights::Pull => "pull",
            Rights::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", self.repository);
        let uri = self.uri(&question.url(&scope))?;
        let known = credentials.map(basic);
        let response = self.send(&Method::GET, &uri, &Words::default(), known).await?;
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(self.denied(status));
            }
            _ => return Err(self.refused(response).await),
        }
        let answer = self.read(response, MAX_ANSWER, "a token").await?;
        let token = serde_json::from_slice(&answer)
            .ok()
            .and_then(|answer: Token| answer.token.or(answer.access_token));
        let token = token.and_then(|token| secret(&format!("Bearer {token}")));
        token.ok_or_else(|| self.astray(&uri.to_string(), "it gives no token"))
    }

    /// The answer, if it is one of these.
    async fn expect(
        &self,
        response: Response<Incoming>,
        expected: StatusCode,
        what: &str,
    ) -> Result<Response<Incoming>, RegistryError> {
        match response.status() {
            status if status == expected => Ok(response),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(self.denied(status)),
            StatusCode::NOT_FOUND => {
                Err(RegistryError::Missing { registry: self.registry(), what: what.to_owned() })
            }
            _ => Err(self.refused(response).await),
        }
    }

    fn denied(&self, status: StatusCode) -> RegistryError {
        let registry = self.registry();
        let rights = match self.rights {
            Rights::Pull => "read it",
            Rights::Push => "write to it",
        };
        match self.has_credentials {
            true => RegistryError::Denied { registry, status: status.as_u16(), rights },
            false => RegistryError::Anonymous { registry },
        }
    }

    async fn refused(&self, response: Response<Incoming>) -> RegistryError {
        let status = response.status().as_u16();
        let answer = self.read(response, MAX_ANSWER, "an answer").await.unwrap_or_default();
        let said = match serde_json::from_slice::<Complaints>(&answer) {
            Ok(Complaints { errors }) => {
                let said = errors.iter().map(|it| format!("{} {}", it.code, it.message));
                format!(": {}", printable(&said.collect::<Vec<_>>().join(", ")))
            }
            Err(_) => String::new(),
        };
        RegistryError::Refused { registry: self.registry(), status, said }
    }

    async fn read(
        &self,
        response: Response<Incoming>,
        most: usize,
        what: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        loop {
            let frame = timeout(PATIENCE, body.frame()).await.map_err(|_| {
                RegistryError::Silent { registry: self.registry(), seconds: PATIENCE.as_secs() }
            })?;
            let Some(frame) = frame else { return Ok(bytes) };
            let frame = frame.map_err(|error| {
                let error: &(dyn Error + 'static) = &error;
                RegistryError::unreachable(&self.authority, error)
            })?;
            bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
            if bytes.len() > most {
                return Err(RegistryError::TooLarge { what: what.to_owned(), most });
            }
        }
    }

    /// Where an answer sends to, if it does.
    fn location(&self, from: &Uri, headers: &HeaderMap) -> Result<Option<Uri>, RegistryError> {
        let Some(location) = headers.get(LOCATION).and_then(|it| it.to_str().ok()) else {
            return Ok(None);
        };
        self.uri(&address::absolute(from, location)).map(Some)
    }

    /// An address that may be asked.
    fn uri(&self, text: &str) -> Result<Uri, RegistryError> {
        let plain = |host: &str| self.is_plain && self.registries.are_plain(host);
        address::read(text, plain).map_err(|why| self.astray(text, why))
    }

    /// The address of something of the repository.
    fn about(&self, what: &str) -> Result<Uri, RegistryError> {
        let scheme = if self.is_plain { "http" } else { "https" };
        let Self { authority, repository, .. } = self;
        let text = format!("{scheme}://{authority}/v2/{repository}/{what}");
        text.parse().map_err(|_| self.astray(&text, "that is no address"))
    }

    fn astray(&self, to: &str, why: &'static str) -> RegistryError {
        RegistryError::Astray { registry: self.registry(), to: printable(to), why }
    }

    fn registry(&self) -> String {
        self.name.registry.clone()
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What a registry says of what it refuses.
#[derive(Deserialize)]
struct Complaints {
    errors: Vec<Complaint>,
}

#[derive(Deserialize)]
struct Complaint {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Whom connections are made to: those whom the system's authorities vouch for, and the operator's.
fn tls(registries: &Registries, is_plain: bool) -> Result<ClientConfig, RegistryError> {
    let mut roots = RootCertStore::empty();
    if !is_plain {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &registries.authorities {
            let wrong = |cause: String| RegistryError::File { path: path.clone(), cause };
            let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
            let certificates: Vec<_> = certificates.map_err(|error| wrong(error.to_string()))?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(wrong("it has no certificates (PEM)".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows the versions that are usual");
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

/// What a registry takes that asks for a password.
fn basic(credentials: &Credentials) -> HeaderValue {
    secret(&credentials.basic()).expect("Base64 is visible ASCII")
}

/// What nobody prints; nothing if it cannot be said in a header.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

const DOCKER: &str = "registry-1.docker.io";
const AGENT: &str = concat!("millrace/", env!("CARGO_PKG_VERSION"));
const CONNECT: Duration = Duration::from_secs(10);
/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(30);
const EACH_OCTET: Duration = Duration::from_micros(10);
const MOST_REDIRECTS: usize = 5;
/// Bytes of a manifest, as many as registries are to take.
const MAX_MANIFEST: usize = 4 << 20;
/// Bytes of other answers.
const MAX_ANSWER: usize = 64 << 10;
