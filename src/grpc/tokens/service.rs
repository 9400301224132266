//! `TokenService`: the handler of each RPC.

use super::{
    create, exchange, explain, get, impersonate, introspect, keys, leaks, login, reassign, revoke, rotate,
    sessions, signing_keys, update,
};
use crate::grpc::service::service;

service! {
    /// Long-lived tokens, and the short-lived JWTs that they are exchanged for.
    Tokens: crate::grpc::pb::token_service_server::TokenService {
        login(LoginRequest) -> LoginResponse = login::login;
        logout(LogoutRequest) -> LogoutResponse = sessions::logout;
        revoke_account_sessions(RevokeAccountSessionsRequest) -> RevokeAccountSessionsResponse = sessions::revoke_account_sessions;
        create_token(CreateTokenRequest) -> CreateTokenResponse = create::create_token;
        get_token(GetTokenRequest) -> GetTokenResponse = get::get_token;
        list_tokens(ListTokensRequest) -> ListTokensResponse = get::list_tokens;
        rotate_token(RotateTokenRequest) -> RotateTokenResponse = rotate::rotate_token;
        finish_rotation(FinishRotationRequest) -> FinishRotationResponse = rotate::finish_rotation;
        cancel_rotation(CancelRotationRequest) -> CancelRotationResponse = rotate::cancel_rotation;
        update_token(UpdateTokenRequest) -> UpdateTokenResponse = update::update_token;
        revoke_token(RevokeTokenRequest) -> RevokeTokenResponse = revoke::revoke_token;
        revoke_account_tokens(RevokeAccountTokensRequest) -> RevokeAccountTokensResponse = revoke::revoke_account_tokens;
        reassign_token(ReassignTokenRequest) -> ReassignTokenResponse = reassign::reassign_token;
        reassign_account_tokens(ReassignAccountTokensRequest) -> ReassignAccountTokensResponse = reassign::reassign_account_tokens;
        exchange_token(ExchangeTokenRequest) -> ExchangeTokenResponse = exchange::exchange_token;
        impersonate_account(ImpersonateAccountRequest) -> ImpersonateAccountResponse = impersonate::impersonate_account;
        explain_token(ExplainTokenRequest) -> ExplainTokenResponse = explain::explain_token;
        introspect_token(IntrospectTokenRequest) -> IntrospectTokenResponse = introspect::introspect_token;
        batch_introspect_tokens(BatchIntrospectTokensRequest) -> BatchIntrospectTokensResponse = introspect::batch_introspect_tokens;
        report_leaked_token(ReportLeakedTokenRequest) -> ReportLeakedTokenResponse = leaks::report_leaked_token;
        get_json_web_key_set(GetJsonWebKeySetRequest) -> GetJsonWebKeySetResponse = keys::get_json_web_key_set;
        list_signing_keys(ListSigningKeysRequest) -> ListSigningKeysResponse = signing_keys::list_signing_keys;
        rotate_signing_key(RotateSigningKeyRequest) -> RotateSigningKeyResponse = signing_keys::rotate_signing_key;
        revoke_signing_key(RevokeSigningKeyRequest) -> RevokeSigningKeyResponse = signing_keys::revoke_signing_key;
    }
}
