//! What bounds a credential to places: networks, audiences and client certificates.
//!
//! What a credential makes never works in more places than it does.

use std::borrow::Cow;

use super::acting::{Acting, exceeds};
use super::credential::Credential;
use super::presentation::Presentation;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::client_certificate::{AllowedCertificate, Sha256Digest};
use crate::domain::values::names::Audience;
use crate::domain::values::networks::Network;
use crate::error::{Reason, Result};

impl Credential {
    /// As [`admit`](Self::admit), for a JWT that was made from the token, and is bound to a certificate or
    /// not.
    ///
    /// The place from which the token was presented was checked when the JWT was made, and the
    /// client that presents the JWT now is another hop: an address or an origin is checked only if
    /// it is given.
    pub(crate) fn admit_access_token(
        &self,
        presentation: &Presentation<'_>,
        bound_to: Option<Sha256Digest>,
    ) -> Result<(), Reason> {
        if self.restrictions.purpose.as_ref() != presentation.purpose {
            Err(Reason::PurposeMismatch)
        } else if presentation.address.is_some_and(|address| !self.works_at(address)) {
            Err(Reason::AddressNotAllowed)
        } else if presentation.origin.is_some_and(|origin| !self.works_from(origin)) {
            Err(Reason::OriginNotAllowed)
        } else if !self.vouches_for_certificate(bound_to)
            || (bound_to.is_some() && ![None, bound_to].contains(&presentation.certificate.thumbprint()))
        {
            Err(Reason::ClientCertificateNotAllowed)
        } else {
            Ok(())
        }
    }

    /// Whether the token may still have a JWT that is bound to this certificate, as far as a thumbprint
    /// tells: one that is allowed by its public key was compared when the JWT was made.
    fn vouches_for_certificate(&self, bound_to: Option<Sha256Digest>) -> bool {
        let allowed = &self.restrictions.certificates;
        let by_key =
            |certificate: &AllowedCertificate| matches!(certificate, AllowedCertificate::PublicKey(_));
        allowed.is_empty()
            || bound_to.is_some_and(|thumbprint| {
                allowed.contains(&AllowedCertificate::Thumbprint(thumbprint)) || allowed.iter().any(by_key)
            })
    }
}

impl Acting<'_> {
    /// Refuses a token with these lists that would work in more places than the caller's credential.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`, naming the list.
    pub(super) fn stays_within_places(&self, lists: &Restrictions) -> Result<()> {
        // Each list by its name: a new one is a place, or it is not.
        let Restrictions {
            scopes: _,
            resources: _,
            audiences,
            networks,
            certificates: _,
            origins: _,
            purpose: _,
        } = &*self.caller.credential().restrictions;
        let allowed = |audience: &Audience| audiences.is_empty() || audiences.contains(audience);
        if (lists.audiences.is_empty() && !audiences.is_empty()) || !lists.audiences.iter().all(allowed) {
            return Err(exceeds(
                "AUDIENCE",
                "allowed_audiences",
                "must be among those of the credential that creates the token",
            ));
        }
        let inside = |network: &Network| networks.iter().any(|own| own.covers(network));
        if !networks.is_empty() && (lists.networks.is_empty() || !lists.networks.iter().all(inside)) {
            return Err(exceeds(
                "NETWORK",
                "allowed_cidrs",
                "must lie within those of the credential that creates the token",
            ));
        }
        let own = self.certificates();
        let is_own = |certificate: &AllowedCertificate| own.contains(certificate);
        if !own.is_empty() && (lists.certificates.is_empty() || !lists.certificates.iter().all(is_own)) {
            return Err(exceeds(
                "CERTIFICATE",
                "allowed_client_certs",
                "must be among those that the credential that creates the token is bound to",
            ));
        }
        Ok(())
    }

    /// Refuses a credential that works only in some places, since a password works anywhere.
    pub(super) fn refuse_restricted_to_places(&self) -> Result<()> {
        const WHY: &str = "restrict the credential, and would not restrict a password";
        let Restrictions { audiences, networks, .. } = &*self.caller.credential().restrictions;
        for (kind, field, is_restricted) in [
            ("NETWORK", "allowed_cidrs", !networks.is_empty()),
            ("AUDIENCE", "allowed_audiences", !audiences.is_empty()),
            ("CERTIFICATE", "allowed_client_certs", !self.certificates().is_empty()),
        ] {
            if is_restricted {
                return Err(exceeds(kind, field, WHY));
            }
        }
        Ok(())
    }

    /// The certificates that the caller is bound to: that of its JWT, else those of its credential.
    fn certificates(&self) -> Cow<'_, [AllowedCertificate]> {
        match self.caller.bound_to() {
            Some(thumbprint) => vec![AllowedCertificate::Thumbprint(thumbprint)].into(),
            None => self.caller.credential().restrictions.certificates.as_slice().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::access::caller::{AuthenticatedBy, Caller};
    use crate::domain::access::credential::tests::{credential, now};
    use crate::domain::access::request_context::RequestContext;
    use crate::domain::values::client_certificate::{ClientCertificate, PresentedCertificate};

    #[test]
    fn what_a_bound_credential_makes_is_bound_to_the_same() {
        let [one, other, key] = [[1; 32], [2; 32], [3; 32]].map(Sha256Digest::from);
        let thumbprint = AllowedCertificate::Thumbprint;
        let certificate = ClientCertificate { thumbprint: one, public_key: key };
        let context =
            Arc::new(RequestContext { certificate: Some(Arc::new(certificate)), ..Default::default() });
        let makes = |own: &[AllowedCertificate], bound: Option<Sha256Digest>, made: &[AllowedCertificate]| {
            let mut held = credential(&[("owner", "*")]);
            held.may_manage_tokens = true;
            held.restrictions.certificates = own.to_vec();
            let bearer = AuthenticatedBy::AccessToken {
                secret: None,
                narrowed_to: None,
                impersonation: None,
                expires_at: now().unix_timestamp() + 60,
                bound_to: bound,
            };
            let caller = Caller::new(Arc::new(held), bearer, context.clone()).unwrap();
            let acting = caller.acting_in(None).unwrap();
            let lists = Restrictions { certificates: made.to_vec(), ..Default::default() };
            let token = acting.may_make(&lists, false).map_err(|error| error.reason());
            let password = acting.may_give_password().map(drop).map_err(|error| error.reason());
            (token, password)
        };
        let refused = Err(Reason::TargetExceedsCaller);
        let pins = [thumbprint(one), AllowedCertificate::PublicKey(key)];
        for (own, bound, made, expected) in [
            (&[][..], None, &[][..], Ok(())),
            (&[], None, &[thumbprint(other)], Ok(())),
            (&pins, None, &[], refused),
            (&pins, None, &pins[1..], Ok(())),
            (&pins, None, &[pins[0], thumbprint(other)], refused),
            // A JWT is bound more closely than its token.
            (&pins, Some(one), &pins[1..], refused),
            (&pins, Some(one), &pins[..1], Ok(())),
            (&[], Some(one), &[], refused),
            (&[], Some(one), &[thumbprint(one)], Ok(())),
        ] {
            let (token, password) = makes(own, bound, made);
            assert_eq!(token, expected, "{own:?} {bound:?} {made:?}");
            assert_eq!(password.is_ok(), own.is_empty() && bound.is_none());
        }
    }

    #[test]
    fn a_bound_jwt_works_with_its_certificate_alone() {
        let [one, other] = [[1; 32], [2; 32]].map(Sha256Digest::from);
        let with = |certificate: Option<Sha256Digest>| {
            let certificate =
                certificate.map(|thumbprint| ClientCertificate { thumbprint, public_key: other });
            let context =
                Arc::new(RequestContext { certificate: certificate.map(Arc::new), ..Default::default() });
            let bearer = AuthenticatedBy::AccessToken {
                secret: None,
                narrowed_to: None,
                impersonation: None,
                expires_at: now().unix_timestamp() + 60,
                bound_to: Some(one),
            };
            Caller::new(Arc::new(credential(&[])), bearer, context).map(drop).map_err(|error| error.reason())
        };
        assert_eq!(with(Some(one)), Ok(()));
        for wrong in [Some(other), None] {
            assert_eq!(with(wrong), Err(Reason::ClientCertificateNotAllowed));
        }
    }

    #[test]
    fn a_bound_jwt_is_compared_with_the_certificate_that_is_named() {
        let [one, other] = [[1; 32], [2; 32]].map(Sha256Digest::from);
        let thumbprint = AllowedCertificate::Thumbprint;
        let by_key = AllowedCertificate::PublicKey(other);
        for (allowed, bound_to, named, good) in [
            (&[][..], None, None, true),
            // A JWT that is bound to nothing may be presented with any certificate.
            (&[], None, Some(one), true),
            (&[], Some(one), None, true),
            (&[], Some(one), Some(one), true),
            (&[], Some(one), Some(other), false),
            // The token was limited to certificates since.
            (&[thumbprint(one)], None, None, false),
            (&[thumbprint(one)], Some(one), Some(one), true),
            (&[thumbprint(other)], Some(one), None, false),
            (&[thumbprint(other)], Some(one), Some(one), false),
            (&[by_key], Some(one), Some(one), true),
            (&[by_key], Some(one), Some(other), false),
        ] {
            let mut held = credential(&[]);
            held.restrictions.certificates = allowed.to_vec();
            let certificate = named.map_or(PresentedCertificate::None, PresentedCertificate::Reported);
            let presentation = Presentation { certificate, ..Default::default() };
            let expected = if good { Ok(()) } else { Err(Reason::ClientCertificateNotAllowed) };
            assert_eq!(
                held.admit_access_token(&presentation, bound_to),
                expected,
                "{allowed:?} {bound_to:?}"
            );
        }
    }
}
