//! `AccountService`: the handler of each RPC.

use super::{
    check_access, clone, conversion, create, get, get_caller, grantable, grants, lifecycle, links,
    password_resets, passwords, update,
};
use crate::grpc::service::service;

service! {
    /// The identities of an org and what they may do.
    Accounts: crate::grpc::pb::account_service_server::AccountService {
        create_service_account(CreateServiceAccountRequest) -> CreateServiceAccountResponse = create::create_service_account;
        create_user(CreateUserRequest) -> CreateUserResponse = create::create_user;
        clone_account(CloneAccountRequest) -> CloneAccountResponse = clone::clone_account;
        get_account(GetAccountRequest) -> GetAccountResponse = get::get_account;
        check_access(CheckAccessRequest) -> CheckAccessResponse = check_access::check_access;
        list_accounts(ListAccountsRequest) -> ListAccountsResponse = get::list_accounts;
        update_account(UpdateAccountRequest) -> UpdateAccountResponse = update::update_account;
        activate_account(ActivateAccountRequest) -> ActivateAccountResponse = lifecycle::activate_account;
        deactivate_account(DeactivateAccountRequest) -> DeactivateAccountResponse = lifecycle::deactivate_account;
        delete_account(DeleteAccountRequest) -> DeleteAccountResponse = lifecycle::delete_account;
        undelete_account(UndeleteAccountRequest) -> UndeleteAccountResponse = lifecycle::undelete_account;
        convert_account(ConvertAccountRequest) -> ConvertAccountResponse = conversion::convert_account;
        change_password(ChangePasswordRequest) -> ChangePasswordResponse = passwords::change_password;
        set_password(SetPasswordRequest) -> SetPasswordResponse = passwords::set_password;
        grant_access(GrantAccessRequest) -> GrantAccessResponse = grants::grant_access;
        revoke_access(RevokeAccessRequest) -> RevokeAccessResponse = grants::revoke_access;
        list_grants(ListGrantsRequest) -> ListGrantsResponse = grants::list_grants;
        list_grantable_access(ListGrantableAccessRequest) -> ListGrantableAccessResponse = grantable::list_grantable_access;
        resolve_link(ResolveLinkRequest) -> ResolveLinkResponse = links::resolve_link;
        request_password_reset(RequestPasswordResetRequest) -> RequestPasswordResetResponse = password_resets::request_password_reset;
        reset_password(ResetPasswordRequest) -> ResetPasswordResponse = password_resets::reset_password;
        get_caller(GetCallerRequest) -> GetCallerResponse = get_caller::get_caller;
    }
}
