//! `AccountService`: where to find each RPC.

use super::{
    clone, conversion, create, get, get_caller, grantable, grants, lifecycle, links, password_resets,
    passwords, update,
};
use crate::grpc::wire::service::service;

service! {
    /// The identities of an org and what they may do.
    Accounts: crate::grpc::pb::account_service_server::AccountService {
        create_service_account(CreateServiceAccountRequest) -> CreateServiceAccountResponse = create::service_account;
        create_user(CreateUserRequest) -> CreateUserResponse = create::user;
        clone_account(CloneAccountRequest) -> CloneAccountResponse = clone::account;
        get_account(GetAccountRequest) -> GetAccountResponse = get::account;
        list_accounts(ListAccountsRequest) -> ListAccountsResponse = get::accounts;
        update_account(UpdateAccountRequest) -> UpdateAccountResponse = update::account;
        activate_account(ActivateAccountRequest) -> ActivateAccountResponse = lifecycle::activate;
        deactivate_account(DeactivateAccountRequest) -> DeactivateAccountResponse = lifecycle::deactivate;
        delete_account(DeleteAccountRequest) -> DeleteAccountResponse = lifecycle::delete;
        undelete_account(UndeleteAccountRequest) -> UndeleteAccountResponse = lifecycle::undelete;
        convert_account(ConvertAccountRequest) -> ConvertAccountResponse = conversion::account;
        change_password(ChangePasswordRequest) -> ChangePasswordResponse = passwords::change;
        set_password(SetPasswordRequest) -> SetPasswordResponse = passwords::set;
        grant_access(GrantAccessRequest) -> GrantAccessResponse = grants::grant;
        revoke_access(RevokeAccessRequest) -> RevokeAccessResponse = grants::revoke;
        list_grants(ListGrantsRequest) -> ListGrantsResponse = grants::list;
        list_grantable_access(ListGrantableAccessRequest) -> ListGrantableAccessResponse = grantable::list;
        resolve_link(ResolveLinkRequest) -> ResolveLinkResponse = links::resolve;
        request_password_reset(RequestPasswordResetRequest) -> RequestPasswordResetResponse = password_resets::request;
        reset_password(ResetPasswordRequest) -> ResetPasswordResponse = password_resets::reset;
        get_caller(GetCallerRequest) -> GetCallerResponse = get_caller::get;
    }
}
