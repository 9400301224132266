//! `AccountService`: the handler of each RPC.

use super::{
    check_access, clone, conversion, create, get, get_caller, grantable, grants, lifecycle, links,
    password_resets, passwords, update,
};
use crate::grpc::service::service;

service! {
    /// The identities of an org and what they may do.
    "countersign.v1.AccountService" {
        CreateServiceAccount(CreateServiceAccountRequest) -> CreateServiceAccountResponse = create::create_service_account;
        CreateUser(CreateUserRequest) -> CreateUserResponse = create::create_user;
        CloneAccount(CloneAccountRequest) -> CloneAccountResponse = clone::clone_account;
        GetAccount(GetAccountRequest) -> GetAccountResponse = get::get_account;
        CheckAccess(CheckAccessRequest) -> CheckAccessResponse = check_access::check_access;
        ListAccounts(ListAccountsRequest) -> ListAccountsResponse = get::list_accounts;
        UpdateAccount(UpdateAccountRequest) -> UpdateAccountResponse = update::update_account;
        ActivateAccount(ActivateAccountRequest) -> ActivateAccountResponse = lifecycle::activate_account;
        DeactivateAccount(DeactivateAccountRequest) -> DeactivateAccountResponse = lifecycle::deactivate_account;
        DeleteAccount(DeleteAccountRequest) -> DeleteAccountResponse = lifecycle::delete_account;
        UndeleteAccount(UndeleteAccountRequest) -> UndeleteAccountResponse = lifecycle::undelete_account;
        ConvertAccount(ConvertAccountRequest) -> ConvertAccountResponse = conversion::convert_account;
        ChangePassword(ChangePasswordRequest) -> ChangePasswordResponse = passwords::change_password;
        SetPassword(SetPasswordRequest) -> SetPasswordResponse = passwords::set_password;
        GrantAccess(GrantAccessRequest) -> GrantAccessResponse = grants::grant_access;
        RevokeAccess(RevokeAccessRequest) -> RevokeAccessResponse = grants::revoke_access;
        ListGrants(ListGrantsRequest) -> ListGrantsResponse = grants::list_grants;
        ListGrantableAccess(ListGrantableAccessRequest) -> ListGrantableAccessResponse = grantable::list_grantable_access;
        ResolveLink(ResolveLinkRequest) -> ResolveLinkResponse = links::resolve_link;
        RequestPasswordReset(RequestPasswordResetRequest) -> RequestPasswordResetResponse = password_resets::request_password_reset;
        ResetPassword(ResetPasswordRequest) -> ResetPasswordResponse = password_resets::reset_password;
        GetCaller(GetCallerRequest) -> GetCallerResponse = get_caller::get_caller;
    }
}
