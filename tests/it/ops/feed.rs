//! The feed: each change is written with what it affects, and every node is notified.

use countersign::config::ServerLimits;
use countersign::grpc::pb;
use tonic::Code;

use crate::harness::{Client, LIMITS, TestServer, by_id, grant, refused, token_for, until};

#[tokio::test]
async fn the_other_node_follows_with_and_without_notifications() {
    let a = TestServer::start().await;
    let org = a.org().await;
    for feed_listen in [true, false] {
        let b = a.beside(ServerLimits { feed_listen, ..LIMITS }).await;
        let (account, bot) = a.account(&org.id, &format!("bot-{feed_listen}"), &[("x.y", "*")]).await;
        let on_b = b.client(bot.token());
        assert_eq!(on_b.exchange().await.unwrap().scopes, ["x.y"]);
        // A grant is narrowed on the one.
        let grants = vec![grant("x.y", "*")];
        let request =
            pb::RevokeAccessRequest { account_id: account.id.clone(), grants, ..Default::default() };
        org.owner.accounts().revoke_access(request).await.unwrap();
        until(async || on_b.exchange().await.unwrap().scopes.is_empty()).await;
        // A token is created, and revoked.
        let made = org.owner.tokens().create_token(token_for("", &account.id)).await;
        let made = made.unwrap().into_inner();
        let on_b = b.client(made.secret);
        on_b.exchange().await.unwrap();
        org.owner.tokens().revoke_token(by_id("", &made.token.unwrap().id)).await.unwrap();
        until(async || on_b.exchange().await.is_err()).await;
        refused(on_b.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
}

#[tokio::test]
async fn another_database_under_us_drops_what_was_cached() {
    let server = TestServer::start().await;
    let org = server.org().await;
    org.owner.exchange().await.unwrap();
    // A dump restored into another cluster: its rows name the cluster that they come from.
    sqlx::query("update deployment set system_identifier = 1").execute(&server.state.db).await.unwrap();
    until(async || server.state.principals.is_empty()).await;
    let epoch = "select feed_epoch from deployment where system_identifier = (select system_identifier from pg_control_system())";
    assert_eq!(sqlx::query_scalar::<_, i64>(epoch).fetch_one(&server.state.db).await.unwrap(), 2);
    org.owner.exchange().await.unwrap();
}

#[tokio::test]
async fn a_change_counts_on_its_own_node_before_it_is_answered() {
    let server = TestServer::with_limits(ServerLimits { feed_listen: false, ..LIMITS }).await;
    let org = server.org().await;
    for n in 0..10 {
        let (account, bot): (pb::Account, Client) =
            server.account(&org.id, &format!("bot-{n}"), &[("x.y", "*")]).await;
        bot.exchange().await.unwrap();
        let id = bot.caller().await.unwrap().credential_id;
        let taken = vec![grant("x.y", "*")];
        let request = pb::RevokeAccessRequest { account_id: account.id, grants: taken, ..Default::default() };
        org.owner.accounts().revoke_access(request).await.unwrap();
        assert!(bot.exchange().await.unwrap().scopes.is_empty());
        org.owner.tokens().revoke_token(by_id("", &id)).await.unwrap();
        refused(bot.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
}
