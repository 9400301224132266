//! Countersign's own API: authenticated stubs, retries, pages, and creates that are made once.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tower_layer::Layer as _;

use crate::bearer::Bearer;
use crate::call_credentials::{TokenLayer, TokenService};
use crate::connect::Endpoint;
use crate::credential::Credential;
use crate::error::{Error, Result};
use crate::pb;
use crate::pb::account_service_client::AccountServiceClient;
use crate::pb::org_service_client::OrgServiceClient;
use crate::pb::token_service_client::TokenServiceClient;
use crate::random::{backoff, uuid};
use crate::token_source::{TokenRequest, TokenSource};

/// How long a call may take with its retries, where nothing else is said.
const DEFAULT_WITHIN: Duration = Duration::from_secs(30);
/// How long one attempt may take.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(15);

/// A channel whose calls are authenticated.
pub type Authenticated = TokenService<Channel>;

/// A client of Countersign's own API.
///
/// A token string authenticates the calls by itself; a key by the JWTs that it is exchanged for. Of another platform's
/// JWT, or where the issuer is not the endpoint, use [`Client::with_source`].
///
/// ```no_run
/// # use countersign_client::{Client, Credential, Endpoint, pb};
/// # async fn example() -> Result<(), countersign_client::Error> {
/// let endpoint = Endpoint::new("https://id.example")?;
/// let client = Client::new(&endpoint, Credential::token_file("/run/secrets/countersign"));
/// let request = pb::CreateServiceAccountRequest { name: "reports".into(), ..Default::default() };
/// let account = client.create(request).await?.account;
/// let mut tokens = client.list(pb::ListTokensRequest::default());
/// while let Some(token) = tokens.next().await? {
///     println!("{} {}", token.id, token.display_name);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    channel: Authenticated,
    within: Duration,
}

impl Client {
    /// A client that connects when it is first used.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(endpoint: &Endpoint, credential: Credential) -> Self {
        let bearer = Bearer::new(endpoint, credential, &endpoint.url());
        Self { channel: TokenLayer::of(bearer).layer(endpoint.channel()), within: DEFAULT_WITHIN }
    }

    /// A client that calls with JWTs of a source. Its request names no audience, and over HTTP each of Countersign's own
    /// permissions that the calls need.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn with_source(endpoint: &Endpoint, source: TokenSource, request: TokenRequest) -> Self {
        let bearer = Bearer::Source(source, request);
        Self { channel: TokenLayer::of(bearer).layer(endpoint.channel()), within: DEFAULT_WITHIN }
    }

    /// With another time for a call and its retries. Default: 30 s.
    pub fn with_timeout(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// The stub of `AccountService`.
    pub fn accounts(&self) -> AccountServiceClient<Authenticated> {
        AccountServiceClient::new(self.channel.clone())
    }

    /// The stub of `OrgService`.
    pub fn orgs(&self) -> OrgServiceClient<Authenticated> {
        OrgServiceClient::new(self.channel.clone())
    }

    /// The stub of `TokenService`.
    pub fn tokens(&self) -> TokenServiceClient<Authenticated> {
        TokenServiceClient::new(self.channel.clone())
    }

    /// Makes a call, and repeats it while the error says that this may help: for what reads, or may be done twice.
    ///
    /// ```no_run
    /// # use countersign_client::{Client, pb};
    /// # async fn example(client: Client) -> Result<(), countersign_client::Error> {
    /// let caller = client
    ///     .call(|| {
    ///         let mut accounts = client.accounts();
    ///         async move { accounts.get_caller(pb::GetCallerRequest {}).await }
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn call<T, F>(&self, attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        retry(self.within, attempt).await
    }

    /// Creates something, once: without a `request_id` the request gets one, and is repeated with it while that may
    /// help.
    ///
    /// # Errors
    /// That of the last attempt. `REQUEST_REPLAYED` of a token: it was made, its secret is lost with the answer, and
    /// `metadata["id"]` is its id.
    pub async fn create<R: Create>(&self, mut request: R) -> Result<R::Response> {
        let id = request.request_id();
        if id.is_empty() {
            *id = uuid();
        }
        retry(self.within, || request.clone().call(self.clone())).await
    }

    /// Lists page by page.
    pub fn list<R: List>(&self, request: R) -> Pages<R> {
        Pages {
            client: self.clone(),
            request: Some(request),
            page: Vec::new().into_iter(),
            total_size: None,
            calls: 0,
        }
    }
}

/// Makes a call, and repeats it while its error is retryable and the time is not over.
///
/// # Errors
/// That of the last attempt.
pub async fn retry<T, F>(within: Duration, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let deadline = Instant::now() + within;
    let mut failures = 0;
    loop {
        let until = deadline.min(Instant::now() + ATTEMPT_WITHIN);
        let error = match timeout_at(until, attempt()).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => Error::from(status),
            Err(_) => Error::new(Code::DeadlineExceeded, "", "the server did not answer in time"),
        };
        let wait = backoff(failures, Duration::from_millis(100), Duration::from_secs(5), error.retry_after());
        if !error.is_retryable() || Instant::now() + wait >= deadline {
            return Err(error);
        }
        failures += 1;
        sleep(wait).await;
    }
}

/// A request that creates something, and may be repeated with its `request_id`.
pub trait Create: Clone + Send {
    /// What the RPC answers.
    type Response: Send;

    #[doc(hidden)]
    fn request_id(&mut self) -> &mut String;
    #[doc(hidden)]
    fn call(self, client: Client) -> impl Future<Output = Result<Response<Self::Response>, Status>> + Send;
}

/// A request for a page of a list.
pub trait List: Clone + Send {
    /// What is listed.
    type Item: Send;

    #[doc(hidden)]
    fn set_page_token(&mut self, token: String);
    #[doc(hidden)]
    fn call(self, client: Client) -> impl Future<Output = Result<Response<Page<Self::Item>>, Status>> + Send;
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Page<T> {
    items: Vec<T>,
    next_page_token: String,
    total_size: Option<i32>,
}

macro_rules! creates {
    ($($request:ident => $response:ident, $stub:ident.$method:ident;)*) => {$(
        impl Create for pb::$request {
            type Response = pb::$response;

            fn request_id(&mut self) -> &mut String {
                &mut self.request_id
            }

            async fn call(self, client: Client) -> Result<Response<pb::$response>, Status> {
                client.$stub().$method(self).await
            }
        }
    )*};
}

creates! {
    CreateServiceAccountRequest => CreateServiceAccountResponse, accounts.create_service_account;
    CreateUserRequest => CreateUserResponse, accounts.create_user;
    CloneAccountRequest => CloneAccountResponse, accounts.clone_account;
    CreateTokenRequest => CreateTokenResponse, tokens.create_token;
    CreateOrgRequest => CreateOrgResponse, orgs.create_org;
    CreateRoleRequest => CreateRoleResponse, orgs.create_role;
    CreateResourceRequest => CreateResourceResponse, orgs.create_resource;
    CreateInvitationRequest => CreateInvitationResponse, orgs.create_invitation;
}

macro_rules! lists {
    ($($request:ident => $items:ident: $item:ident, $stub:ident.$method:ident;)*) => {$(
        impl List for pb::$request {
            type Item = pb::$item;

            fn set_page_token(&mut self, token: String) {
                self.page_token = token;
            }

            async fn call(self, client: Client) -> Result<Response<Page<pb::$item>>, Status> {
                let answer = client.$stub().$method(self).await?;
                Ok(answer.map(|answer| Page {
                    items: answer.$items,
                    next_page_token: answer.next_page_token,
                    total_size: answer.total_size,
                }))
            }
        }
    )*};
}

lists! {
    ListAccountsRequest => accounts: Account, accounts.list_accounts;
    ListGrantsRequest => grants: Grant, accounts.list_grants;
    ListTokensRequest => tokens: Token, tokens.list_tokens;
    ListSigningKeysRequest => signing_keys: SigningKey, tokens.list_signing_keys;
    ListVerifiersRequest => verifiers: Verifier, tokens.list_verifiers;
    ListOrgsRequest => orgs: Org, orgs.list_orgs;
    ListRolesRequest => roles: Role, orgs.list_roles;
    ListResourcesRequest => resources: Resource, orgs.list_resources;
    ListMembersRequest => members: Member, orgs.list_members;
    ListInvitationsRequest => invitations: Invitation, orgs.list_invitations;
    ListEventsRequest => events: Event, orgs.list_events;
}

/// What [`Client::list`] lists, page by page: each page is asked for when it is needed.
#[derive(Debug)]
pub struct Pages<R: List> {
    client: Client,
    /// The request of the next page; none after the last one.
    request: Option<R>,
    page: std::vec::IntoIter<R::Item>,
    total_size: Option<i32>,
    calls: u32,
}

impl<R: List> Pages<R> {
    /// The next one; `None` after the last.
    ///
    /// # Errors
    /// Why its page did not come. The same page is asked for again by the next call.
    pub async fn next(&mut self) -> Result<Option<R::Item>> {
        loop {
            if let Some(item) = self.page.next() {
                return Ok(Some(item));
            }
            let Some(request) = &self.request else { return Ok(None) };
            let page = retry(self.client.within, || request.clone().call(self.client.clone())).await?;
            self.calls += 1;
            self.total_size = page.total_size;
            self.page = page.items.into_iter();
            if page.next_page_token.is_empty() {
                self.request = None;
            } else if let Some(request) = &mut self.request {
                request.set_page_token(page.next_page_token);
            }
        }
    }

    /// All that are left.
    ///
    /// # Errors
    /// Why a page did not come.
    pub async fn collect(mut self) -> Result<Vec<R::Item>> {
        let mut all = Vec::new();
        while let Some(item) = self.next().await? {
            all.push(item);
        }
        Ok(all)
    }

    /// How many there are in all, as the last page said: absent above 10 000, and before the first page.
    pub fn total_size(&self) -> Option<i32> {
        self.total_size
    }

    /// How many pages were asked for.
    pub fn calls(&self) -> u32 {
        self.calls
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_may_help_is_repeated_and_nothing_else_is() {
        let attempts = AtomicUsize::new(0);
        let answer = retry(Duration::from_secs(60), || {
            let number = attempts.fetch_add(1, Ordering::Relaxed);
            async move {
                match number {
                    0 => Err(Status::unavailable("away")),
                    1 => Err(Error::new(Code::Aborted, "CONFLICT", "").into()),
                    number => Ok(Response::new(number)),
                }
            }
        });
        assert_eq!(answer.await.unwrap(), 2);
        let attempts = AtomicUsize::new(0);
        let refused = retry::<(), _>(Duration::from_secs(60), || {
            attempts.fetch_add(1, Ordering::Relaxed);
            async { Err(Error::denied("invoices.read", None).into()) }
        });
        assert_eq!(refused.await.unwrap_err().reason(), "PERMISSION_MISSING");
        assert_eq!(attempts.into_inner(), 1);
        // A wait beyond the end of the call is no use.
        let attempts = AtomicUsize::new(0);
        let throttled = retry::<(), _>(Duration::from_secs(5), || {
            attempts.fetch_add(1, Ordering::Relaxed);
            let wait = Some(Duration::from_secs(3_600));
            async move { Err(Error::new(Code::ResourceExhausted, "THROTTLED", "").after(wait).into()) }
        });
        assert_eq!(throttled.await.unwrap_err().reason(), "THROTTLED");
        assert_eq!(attempts.into_inner(), 1);
    }

    #[tokio::test]
    async fn a_create_has_one_id_for_all_its_attempts() {
        /// It fails once, and then answers with its id.
        #[derive(Clone, Default)]
        struct Made {
            id: String,
            seen: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
        }
        impl Create for Made {
            type Response = String;

            fn request_id(&mut self) -> &mut String {
                &mut self.id
            }

            async fn call(self, _: Client) -> Result<Response<String>, Status> {
                let mut seen = self.seen.lock().unwrap();
                seen.push(self.id.clone());
                if seen.len() < 3 { Err(Status::unavailable("away")) } else { Ok(Response::new(self.id)) }
            }
        }
        let client = Client::new(&Endpoint::new("http://localhost").unwrap(), Credential::secret("x"));
        let made = Made::default();
        let id = client.create(made.clone()).await.unwrap();
        assert_eq!((id.len(), &*made.seen.lock().unwrap()), (36, &vec![id.clone(); 3]));
        let given = Made { id: "mine".into(), ..Made::default() };
        assert_eq!(client.create(given).await.unwrap(), "mine");
    }
}
