//! `AccountService`: where to find each RPC.

use super::accounts::{
    access, caller, clone, convert, create, get, grantable, life, links, passwords, resets, update,
};
use super::service;

service! {
    /// The identities of an org and what they may do.
    Accounts: super::pb::account_service_server::AccountService {
        create_service_account(CreateServiceAccountRequest) -> CreateServiceAccountResponse = create::service_account;
        create_user(CreateUserRequest) -> CreateUserResponse = create::user;
        clone_account(CloneAccountRequest) -> CloneAccountResponse = clone::account;
        get_account(GetAccountRequest) -> GetAccountResponse = get::account;
        list_accounts(ListAccountsRequest) -> ListAccountsResponse = get::accounts;
        update_account(UpdateAccountRequest) -> UpdateAccountResponse = update::account;
        activate_account(ActivateAccountRequest) -> ActivateAccountResponse = life::activate;
        deactivate_account(DeactivateAccountRequest) -> DeactivateAccountResponse = life::deactivate;
        delete_account(DeleteAccountRequest) -> DeleteAccountResponse = life::delete;
        undelete_account(UndeleteAccountRequest) -> UndeleteAccountResponse = life::undelete;
        convert_account(ConvertAccountRequest) -> ConvertAccountResponse = convert::account;
        change_password(ChangePasswordRequest) -> ChangePasswordResponse = passwords::change;
        set_password(SetPasswordRequest) -> SetPasswordResponse = passwords::set;
        grant_access(GrantAccessRequest) -> GrantAccessResponse = access::grant;
        revoke_access(RevokeAccessRequest) -> RevokeAccessResponse = access::revoke;
        list_grants(ListGrantsRequest) -> ListGrantsResponse = access::list;
        list_grantable_access(ListGrantableAccessRequest) -> ListGrantableAccessResponse = grantable::list;
        resolve_link(ResolveLinkRequest) -> ResolveLinkResponse = links::resolve;
        request_password_reset(RequestPasswordResetRequest) -> RequestPasswordResetResponse = resets::request;
        reset_password(ResetPasswordRequest) -> ResetPasswordResponse = resets::reset;
        get_caller(GetCallerRequest) -> GetCallerResponse = caller::get;
    }
}
