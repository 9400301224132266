//! `TokenService`: the handler of each RPC.

use super::{
    create, exchange, explain, get, impersonate, introspect, keys, leaks, login, reassign, revoke, rotate,
    sessions, signing_keys, update, verifiers, watch_revocations,
};
use crate::grpc::service::{service, streams};

service! {
    /// Long-lived tokens, and the short-lived JWTs that they are exchanged for.
    "countersign.v1.TokenService" {
        Login(LoginRequest) -> LoginResponse = login::login;
        Logout(LogoutRequest) -> LogoutResponse = sessions::logout;
        RevokeAccountSessions(RevokeAccountSessionsRequest) -> RevokeAccountSessionsResponse = sessions::revoke_account_sessions;
        CreateToken(CreateTokenRequest) -> CreateTokenResponse = create::create_token;
        GetToken(GetTokenRequest) -> GetTokenResponse = get::get_token;
        ListTokens(ListTokensRequest) -> ListTokensResponse = get::list_tokens;
        RotateToken(RotateTokenRequest) -> RotateTokenResponse = rotate::rotate_token;
        FinishRotation(FinishRotationRequest) -> FinishRotationResponse = rotate::finish_rotation;
        CancelRotation(CancelRotationRequest) -> CancelRotationResponse = rotate::cancel_rotation;
        UpdateToken(UpdateTokenRequest) -> UpdateTokenResponse = update::update_token;
        RevokeToken(RevokeTokenRequest) -> RevokeTokenResponse = revoke::revoke_token;
        RevokeAccountTokens(RevokeAccountTokensRequest) -> RevokeAccountTokensResponse = revoke::revoke_account_tokens;
        ReassignToken(ReassignTokenRequest) -> ReassignTokenResponse = reassign::reassign_token;
        ReassignAccountTokens(ReassignAccountTokensRequest) -> ReassignAccountTokensResponse = reassign::reassign_account_tokens;
        ExchangeToken(ExchangeTokenRequest) -> ExchangeTokenResponse = exchange::exchange_token;
        ImpersonateAccount(ImpersonateAccountRequest) -> ImpersonateAccountResponse = impersonate::impersonate_account;
        ExplainToken(ExplainTokenRequest) -> ExplainTokenResponse = explain::explain_token;
        IntrospectToken(IntrospectTokenRequest) -> IntrospectTokenResponse = introspect::introspect_token;
        BatchIntrospectTokens(BatchIntrospectTokensRequest) -> BatchIntrospectTokensResponse = introspect::batch_introspect_tokens;
        ReportLeakedToken(ReportLeakedTokenRequest) -> ReportLeakedTokenResponse = leaks::report_leaked_token;
        GetJsonWebKeySet(GetJsonWebKeySetRequest) -> GetJsonWebKeySetResponse = keys::get_json_web_key_set;
        ListSigningKeys(ListSigningKeysRequest) -> ListSigningKeysResponse = signing_keys::list_signing_keys;
        RotateSigningKey(RotateSigningKeyRequest) -> RotateSigningKeyResponse = signing_keys::rotate_signing_key;
        RevokeSigningKey(RevokeSigningKeyRequest) -> RevokeSigningKeyResponse = signing_keys::revoke_signing_key;
        AcknowledgeRevocations(AcknowledgeRevocationsRequest) -> AcknowledgeRevocationsResponse = verifiers::acknowledge_revocations;
        ListVerifiers(ListVerifiersRequest) -> ListVerifiersResponse = verifiers::list_verifiers;
    }
}

streams! {
    "countersign.v1.TokenService" {
        WatchRevocations(WatchRevocationsRequest) = watch_revocations::watch_revocations;
    }
}
