//! `TokenService`: where to find each RPC.

use super::{
    create, exchange, explain, get, impersonate, introspect, keys, leaks, login, reassign, revoke, rotate,
    sessions, signing_keys, update,
};
use crate::grpc::wire::service::service;

service! {
    /// Long-lived tokens, and the short-lived JWTs that they are exchanged for.
    Tokens: crate::grpc::pb::token_service_server::TokenService {
        login(LoginRequest) -> LoginResponse = login::login;
        logout(LogoutRequest) -> LogoutResponse = sessions::logout;
        revoke_account_sessions(RevokeAccountSessionsRequest) -> RevokeAccountSessionsResponse = sessions::of_account;
        create_token(CreateTokenRequest) -> CreateTokenResponse = create::token;
        get_token(GetTokenRequest) -> GetTokenResponse = get::token;
        list_tokens(ListTokensRequest) -> ListTokensResponse = get::tokens;
        rotate_token(RotateTokenRequest) -> RotateTokenResponse = rotate::rotate;
        finish_rotation(FinishRotationRequest) -> FinishRotationResponse = rotate::finish;
        cancel_rotation(CancelRotationRequest) -> CancelRotationResponse = rotate::cancel;
        update_token(UpdateTokenRequest) -> UpdateTokenResponse = update::token;
        revoke_token(RevokeTokenRequest) -> RevokeTokenResponse = revoke::token;
        revoke_account_tokens(RevokeAccountTokensRequest) -> RevokeAccountTokensResponse = revoke::of_account;
        reassign_token(ReassignTokenRequest) -> ReassignTokenResponse = reassign::token;
        reassign_account_tokens(ReassignAccountTokensRequest) -> ReassignAccountTokensResponse = reassign::tokens;
        exchange_token(ExchangeTokenRequest) -> ExchangeTokenResponse = exchange::token;
        impersonate_account(ImpersonateAccountRequest) -> ImpersonateAccountResponse = impersonate::account;
        explain_token(ExplainTokenRequest) -> ExplainTokenResponse = explain::token;
        introspect_token(IntrospectTokenRequest) -> IntrospectTokenResponse = introspect::token;
        batch_introspect_tokens(BatchIntrospectTokensRequest) -> BatchIntrospectTokensResponse = introspect::tokens;
        report_leaked_token(ReportLeakedTokenRequest) -> ReportLeakedTokenResponse = leaks::report;
        get_json_web_key_set(GetJsonWebKeySetRequest) -> GetJsonWebKeySetResponse = keys::json_web_key_set;
        list_signing_keys(ListSigningKeysRequest) -> ListSigningKeysResponse = signing_keys::list;
        rotate_signing_key(RotateSigningKeyRequest) -> RotateSigningKeyResponse = signing_keys::rotate;
        revoke_signing_key(RevokeSigningKeyRequest) -> RevokeSigningKeyResponse = signing_keys::revoke;
    }
}
