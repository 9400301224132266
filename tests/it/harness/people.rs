//! People and technical users with passwords, and their logins.

use countersign::db;
use countersign::domain::sign_in::password::Password;
use countersign::domain::values::ids::{AccountId, OrgId};
use countersign::grpc::pb;
use tonic::{Request, Status};

use super::{Client, TestServer, grant, watch};

/// A password that may be set.
pub const PASSWORD: &str = "correct horse battery staple";

impl TestServer {
    /// A person with this address, these grants, and [`PASSWORD`]. People set it by a link in an email.
    pub async fn person(&self, org_id: &str, email: &str, grants: &[(&str, &str)]) -> pb::Account {
        let request = pb::CreateUserRequest {
            org_id: org_id.into(),
            email: email.into(),
            grants: grants.iter().map(|(right, resource)| grant(right, resource)).collect(),
            ..Default::default()
        };
        let made = self.operator.accounts().create_user(request).await.unwrap().into_inner().account.unwrap();
        self.give_password(&made, PASSWORD).await;
        made
    }

    /// A person with this address and [`PASSWORD`], set by the link in the email, which proves the
    /// mailbox.
    pub async fn proved_person(&self, org_id: &str, email: &str) -> pb::Account {
        let request =
            pb::CreateUserRequest { org_id: org_id.into(), email: email.into(), ..Default::default() };
        let made = self.operator.accounts().create_user(request).await.unwrap().into_inner().account.unwrap();
        let code = self.code_for(email).await.unwrap();
        let set = pb::ResetPasswordRequest { code, new_password: PASSWORD.into() };
        self.anonymous().accounts().reset_password(set).await.unwrap();
        watch(PASSWORD);
        made
    }

    /// A person of another org who was invited to this one with these rights, and has accepted.
    pub async fn guest(&self, org_id: &str, grants: &[(&str, &str)]) -> pb::Account {
        let home = self.org().await;
        let email = format!("guest@{}.example", home.slug);
        let guest = self.proved_person(&home.id, &email).await;
        invite(&self.operator, org_id, &email, grants).await.unwrap();
        let code = self.code_for(&email).await.unwrap();
        let joined = accept(&self.session(&email).await, &code).await.unwrap();
        assert_eq!((joined.account.unwrap().id, joined.dropped_grants.len()), (guest.id.clone(), 0));
        guest
    }

    /// Gives the account this password, whatever it is.
    pub async fn give_password(&self, account: &pb::Account, password: &str) {
        let owner = (OrgId::parse(&account.org_id).unwrap(), AccountId::parse(&account.id).unwrap());
        let record = self.state.passwords.hash(owner, &Password::parse(password).unwrap()).await.unwrap();
        let mut tx = self.state.db.begin().await.unwrap();
        db::sign_in::passwords::set(
            &mut tx,
            owner.0,
            owner.1,
            &record,
            Default::default(),
            self.state.clock.now(),
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        watch(password);
    }

    /// A service account with these grants and [`PASSWORD`].
    pub async fn technical(&self, org_id: &str, name: &str, grants: &[(&str, &str)]) -> pb::Account {
        watch(PASSWORD);
        let request = pb::CreateServiceAccountRequest {
            org_id: org_id.into(),
            name: name.into(),
            password: PASSWORD.into(),
            grants: grants.iter().map(|(right, resource)| grant(right, resource)).collect(),
            ..Default::default()
        };
        let made = self.operator.accounts().create_service_account(request).await.unwrap();
        made.into_inner().account.unwrap()
    }

    /// Signs in, and gives a client with the session.
    pub async fn session(&self, username: &str) -> Client {
        self.client(self.login(username, PASSWORD, None).await.unwrap().session_token)
    }

    /// Signs in from this address, where the server trusts the header.
    pub async fn login(
        &self,
        username: &str,
        password: &str,
        from: Option<&str>,
    ) -> Result<pb::LoginResponse, Status> {
        let request =
            pb::LoginRequest { username: username.into(), password: password.into(), ..Default::default() };
        self.login_with(request, from).await
    }

    pub async fn login_with(
        &self,
        request: pb::LoginRequest,
        from: Option<&str>,
    ) -> Result<pb::LoginResponse, Status> {
        let mut request = Request::new(request);
        if let Some(from) = from {
            request.metadata_mut().insert("x-forwarded-for", from.parse().unwrap());
        }
        let answer = self.anonymous().tokens().login(request).await?.into_inner();
        watch(&answer.session_token);
        watch(&answer.access_token);
        Ok(answer)
    }
}

/// Invites the address to the org with these rights.
pub async fn invite(
    by: &Client,
    org_id: &str,
    email: &str,
    grants: &[(&str, &str)],
) -> Result<pb::Invitation, Status> {
    let request = pb::CreateInvitationRequest {
        org_id: org_id.into(),
        email: email.into(),
        grants: grants.iter().map(|(right, resource)| grant(right, resource)).collect(),
        ..Default::default()
    };
    Ok(by.orgs().create_invitation(request).await?.into_inner().invitation.unwrap())
}

/// Accepts an invitation as the account of this client.
pub async fn accept(by: &Client, code: &str) -> Result<pb::AcceptInvitationResponse, Status> {
    let request = pb::AcceptInvitationRequest { code: code.into(), ..Default::default() };
    Ok(by.orgs().accept_invitation(request).await?.into_inner())
}

/// Signs up with an invitation, and [`PASSWORD`].
pub async fn sign_up(server: &TestServer, code: &str) -> Result<pb::AcceptInvitationResponse, Status> {
    let request = pb::AcceptInvitationRequest {
        code: code.into(),
        given_name: "Ann".into(),
        family_name: "Ruiz".into(),
        password: PASSWORD.into(),
    };
    watch(PASSWORD);
    Ok(server.anonymous().orgs().accept_invitation(request).await?.into_inner())
}
