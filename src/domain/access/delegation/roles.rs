//! Calls about an org's custom roles.

use super::calls::{By, Call};
use super::world::{Account, World, refuse};
use crate::domain::values::ids::RoleId;
use crate::domain::values::permissions::{Permission, Right};
use crate::domain::values::resources::Node;
use crate::error::Result;

impl World {
    fn holders(&self, id: RoleId) -> impl Iterator<Item = &Account> {
        let holds = move |account: &&Account| account.grants.iter().any(|(r, _)| *r == Right::Custom(id));
        self.accounts.iter().filter(holds)
    }

    pub fn change_roles(&mut self, by: &By<'_>, call: &Call) -> Result<()> {
        let acting = &by.acting;
        acting.require(&Permission::ROLES_WRITE, &Node::Org)?;
        match call {
            Call::CreateRole { terms } => {
                acting.may_define(terms)?;
                self.made_roles += 1;
                self.roles.insert(RoleId::from_u128(100 + self.made_roles), terms.clone());
            }
            Call::UpdateRole { role, terms } => {
                let Some(id) = self.role(*role) else { return refuse() };
                let before = &self.roles[&id];
                acting.may_redefine(before, terms)?;
                let lost = before.kinds_beyond(terms);
                if self.holders(id).any(|account| lost.contains(&account.kind)) {
                    return refuse();
                }
                self.roles.insert(id, terms.clone());
            }
            Call::DeleteRole { role } => {
                let Some(id) = self.role(*role) else { return refuse() };
                if self.holders(id).next().is_some() {
                    return refuse();
                }
                self.roles.remove(&id);
            }
            _ => return refuse(),
        }
        Ok(())
    }
}
