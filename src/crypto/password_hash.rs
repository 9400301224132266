//! Passwords: hashed with Argon2id (RFC 9106), and the hash sealed under the master key.
//!
//! Passwords that people choose can be guessed, so each guess must be expensive: 19 MiB of memory
//! and 20 ms of a core (OWASP's password storage cheat sheet, in 2026). The hash is stored as a PHC
//! string, so that its parameters may be raised. It is sealed, with the account in the additional
//! data: an attacker who has stolen the database cannot test guesses without the master key, and
//! one who can write to it can neither plant a password of their own nor move one from account to
//! account.
//!
//! To set a password: [`Password::parse`](crate::domain::sign_in::password::Password::parse),
//! `flows::new_password` *before* the transaction begins (no lock is held meanwhile), then
//! `db::passwords::set` in it. Nothing else in the server computes Argon2.

use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use countersign_os::{GiveWay, give_way};
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use super::password_places::{Asker, Place, Places, overloaded};
use super::seal::{MasterKeys, SealPurpose};
use crate::clock::random;
use crate::config::PasswordHashing;
use crate::domain::sign_in::password::{Password, TypedPassword};
use crate::domain::values::ids::{AccountId, OrgId};
use crate::error::{Error, Result};
use crate::metrics;
use crate::telemetry::spans::span;

/// The length of the hash, in bytes.
const OUTPUT: usize = 32;

/// The owner of a password: an account, in its home org.
pub type Owner = (OrgId, AccountId);

/// The stored record of a password: its Argon2id hash, sealed for its owner.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordRecord(Vec<u8>);

impl PasswordRecord {
    /// A record as the database stores it.
    pub fn from_sealed(sealed: Vec<u8>) -> Self {
        Self(sealed)
    }

    /// The sealed bytes, for the database.
    pub fn sealed(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PasswordRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordRecord([redacted])")
    }
}

/// The result of comparing a typed password with the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    Right,
    /// Right, but hashed with lower parameters than the present ones: re-hash it.
    RightButOutdated,
}

/// Hashes and verifies passwords on its own threads.
///
/// As many run at once as their memory budget allows. One more waits for its turn, if not too many
/// do, and holds no connection meanwhile.
pub struct Passwords {
    params: Params,
    /// Who may hash next.
    pub places: Places,
    /// How many hashes were computed.
    computed: AtomicU64,
    /// How they went, for the metrics.
    pub counts: Arc<metrics::Passwords>,
    memory: Arc<Memory>,
    /// None after shutdown.
    threads: Option<Threads>,
    /// Not the hash of any password: compared with when there is no record.
    dummy: PasswordHash,
    master: Arc<MasterKeys>,
}

/// The threads that compute: runtimes of nothing but blocking work.
struct Threads {
    /// For passwords of known clients. Their parts of the places are small, and one that signs in must
    /// not wait until a busy core has nothing else to do.
    known: Runtime,
    /// The same where more of their org wait: an org that asks for many gives way to all other work.
    known_many: Runtime,
    /// For passwords of strangers, which give way too.
    strangers: Runtime,
    /// For new passwords, which give way too.
    new: Runtime,
}

impl Threads {
    /// For each kind no more threads than there are cores: more would be no sooner done with all of their hashes, and
    /// together they would take more of a busy core.
    fn start(most: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = |name: &str, how: GiveWay| {
            let mut threads = Builder::new_current_thread();
            threads.thread_name(name).max_blocking_threads(cores.min(most as usize));
            threads.on_thread_start(move || give_way(how));
            threads.build().expect("a runtime of nothing but threads needs nothing")
        };
        Self {
            known: threads("passwords", GiveWay::Sooner),
            known_many: threads("many-passwords", GiveWay::Most),
            strangers: threads("strangers", GiveWay::Most),
            new: threads("new-passwords", GiveWay::Most),
        }
    }

    fn of(&self, asker: Asker, place: &Place) -> &Runtime {
        match asker {
            Asker::Known(_) if place.more_wait() => &self.known_many,
            Asker::Known(_) => &self.known,
            Asker::Stranger(_) => &self.strangers,
            Asker::Setting(_) => &self.new,
        }
    }

    /// Ends them without waiting.
    fn shut_down(self) {
        for threads in [self.known, self.known_many, self.strangers, self.new] {
            threads.shutdown_background();
        }
    }
}

/// Buffers in which hashes are computed, reused by the next hash.
///
/// When a buffer is freed, the allocator retains it for the thread that had it, and with a dozen
/// threads the memory grew to ten times the budget. A buffer contains no password, and its content
/// reveals nothing about one without as much work as guessing it.
#[derive(Default)]
struct Memory(Mutex<Vec<Vec<Block>>>);

impl Memory {
    /// Computes Argon2id of a password, in a buffer that another hash has left, if there is one.
    fn hash(&self, params: &Params, password: &[u8], salt: &[u8]) -> argon2::Result<[u8; OUTPUT]> {
        let free = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut blocks = free().pop().unwrap_or_default();
        let (had, takes) = (blocks.len(), params.block_count());
        blocks.resize(had.max(takes), Block::new());
        let mut hash = [0; OUTPUT];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        argon2.hash_password_into_with_memory(password, salt, &mut hash, &mut blocks[..takes])?;
        // A hash with earlier, larger parameters must not leave a larger buffer behind.
        if had == 0 || had >= takes {
            free().push(blocks);
        }
        Ok(hash)
    }
}

impl Passwords {
    /// A hasher with these parameters, which the command line has checked against their minimum.
    ///
    /// # Panics
    /// If Argon2 does not accept the parameters, or the system cannot start a runtime.
    pub fn new(hashing: PasswordHashing, master: Arc<MasterKeys>) -> Self {
        let params = Params::new(hashing.hash_memory_kib, hashing.hash_passes, 1, Some(OUTPUT));
        let params = params.expect("the command line takes only parameters that Argon2 has");
        let places = Places::new(hashing.places());
        Self {
            threads: Some(Threads::start(places.all())),
            places,
            computed: AtomicU64::new(0),
            counts: Arc::default(),
            memory: Arc::default(),
            dummy: stored_hash(&params, &random::<16>(), &random()),
            params,
            master,
        }
    }

    /// How many hashes were computed since the start.
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    /// The refusal of one for which there is no place, which is counted.
    pub fn shed(&self, asker: Asker) -> Error {
        self.counts.shed[asker.part()].one();
        overloaded()
    }

    /// Hashes a new password and returns the record to store.
    ///
    /// # Errors
    /// `OVERLOADED` if too many wait.
    pub async fn hash(&self, owner: Owner, password: &Password) -> Result<PasswordRecord> {
        self.rehash(owner, password.typed()).await
    }

    /// Re-hashes a password that was right, and returns the record to store.
    ///
    /// The password may date from when other rules applied, so it is not validated again.
    ///
    /// # Errors
    /// `OVERLOADED` if too many wait.
    pub async fn rehash(&self, owner: Owner, typed: &TypedPassword) -> Result<PasswordRecord> {
        let salt = random::<16>();
        let hash = self.run(Asker::Setting(owner.0), self.params.clone(), typed, salt.to_vec()).await?;
        let phc = Zeroizing::new(stored_hash(&self.params, &salt, &hash).to_string());
        Ok(PasswordRecord(self.master.seal(SealPurpose::Password, &bound_to(owner), phc.as_bytes())))
    }

    /// Compares a password with the record of an account, on behalf of a client.
    ///
    /// Without a record the same work is done with a dummy, so that the response time does not
    /// reveal whether there is one. A record that does not open counts as none.
    ///
    /// # Errors
    /// `OVERLOADED` if too many wait.
    pub async fn verify(
        &self,
        asker: Asker,
        typed: &TypedPassword,
        record: Option<(Owner, &PasswordRecord)>,
    ) -> Result<Verdict> {
        let known = record.and_then(|(owner, record)| self.open(owner, record));
        let with = known.as_ref().unwrap_or(&self.dummy);
        let damaged = || Error::internal("the record of a password is damaged");
        let params = Params::try_from(with).map_err(|_| damaged())?;
        let (salt, expected) = with.salt.zip(with.hash).ok_or_else(damaged)?;
        let old = params.m_cost() < self.params.m_cost() || params.t_cost() < self.params.t_cost();
        let hash = self.run(asker, params, typed, salt.as_ref().to_vec()).await?;
        let right = verify_slices_are_equal(&hash, expected.as_bytes()).is_ok();
        Ok(match (right && known.is_some(), old) {
            (false, _) => Verdict::Wrong,
            (true, false) => Verdict::Right,
            (true, true) => Verdict::RightButOutdated,
        })
    }

    fn open(&self, owner: Owner, record: &PasswordRecord) -> Option<PasswordHash> {
        let phc = self.master.open(SealPurpose::Password, &bound_to(owner), &record.0);
        let Ok(phc) = phc else {
            tracing::error!(account = %owner.1, "password record does not open with a master key of this server");
            return None;
        };
        PasswordHash::new(std::str::from_utf8(&phc).ok()?).ok()
    }

    /// Computes one hash on the hashing threads, in the caller's span.
    ///
    /// There it delays no other work.
    async fn run(
        &self,
        asker: Asker,
        params: Params,
        typed: &TypedPassword,
        salt: Vec<u8>,
    ) -> Result<[u8; OUTPUT]> {
        // A hash with earlier, larger parameters needs more memory, and so takes more places.
        let (part, counts) = (asker.part(), self.counts.clone());
        let place = self.places.take(asker, params.m_cost().div_ceil(self.params.m_cost())).await;
        let place = place.map_err(|_| self.shed(asker))?;
        self.computed.fetch_add(1, Ordering::Relaxed);
        let threads = self.threads.as_ref().ok_or_else(|| Error::internal("no hash is made any more"))?;
        let (span, memory, typed) = (tracing::Span::current(), self.memory.clone(), typed.clone());
        let made = threads.of(asker, &place).spawn_blocking(move || {
            // Held until the memory is free again, even if the call was cancelled meanwhile.
            let _place = place;
            let _call = span.entered();
            let _span = span!("hash").entered();
            let began = Instant::now();
            let hash = memory.hash(&params, typed.expose().as_bytes(), &salt);
            counts.durations[part].record(began.elapsed());
            hash
        });
        made.await.map_err(Error::internal)?.map_err(|error| Error::internal(error.to_string()))
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        // It may be dropped in an async task, which must not block.
        if let Some(threads) = self.threads.take() {
            threads.shut_down();
        }
    }
}

/// A hash in the form in which it is stored.
fn stored_hash(params: &Params, salt: &[u8], hash: &[u8; OUTPUT]) -> PasswordHash {
    PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: params.try_into().expect("three numbers fit"),
        salt: Some(Salt::new(salt).expect("16 bytes are a salt")),
        hash: Some(Output::new(hash).expect("32 bytes are a hash")),
    }
}

/// The additional data that binds the sealed hash to its owner.
fn bound_to((org_id, account_id): Owner) -> String {
    format!("{}/{}", org_id.uuid(), account_id.uuid())
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passwords({} places free)", self.places.free())
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    const KNOWN: Asker = Asker::Known(OrgId::from_u128(1));
    const ONE: Owner = (OrgId::from_u128(1), AccountId::from_u128(1));
    const OTHER: Owner = (OrgId::from_u128(1), AccountId::from_u128(2));

    fn cheap(memory: u32, budget: u32) -> PasswordHashing {
        PasswordHashing { hash_memory_kib: memory, hash_passes: 1, memory_mib: budget }
    }

    fn typed(text: &str) -> TypedPassword {
        TypedPassword::new(text)
    }

    #[tokio::test]
    async fn the_right_password_of_the_right_account() {
        let passwords = Passwords::new(cheap(64, 1), Arc::new(MasterKeys::for_tests()));
        let password = Password::parse("caf\u{e9} au lait, please").unwrap();
        let record = passwords.hash(ONE, &password).await.unwrap();
        for (owner, text, verdict) in [
            (ONE, "caf\u{e9} au lait, please", Verdict::Right),
            (ONE, "cafe\u{301} au lait, please", Verdict::Right),
            (ONE, "Caf\u{e9} au lait, please", Verdict::Wrong),
            (ONE, "", Verdict::Wrong),
            (OTHER, "caf\u{e9} au lait, please", Verdict::Wrong),
        ] {
            assert_eq!(
                passwords.verify(KNOWN, &typed(text), Some((owner, &record))).await.unwrap(),
                verdict,
                "{text}"
            );
        }
        assert_eq!(passwords.verify(KNOWN, password.typed(), None).await.unwrap(), Verdict::Wrong);
        assert_ne!(record, passwords.hash(ONE, &password).await.unwrap(), "each has a salt of its own");
        assert_eq!(passwords.memory.0.lock().unwrap().len(), 1, "one after the other they use one memory");
        // Planted by an attacker without the master key.
        let theirs = Passwords::new(cheap(64, 1), Arc::new(MasterKeys::for_tests()));
        let planted = theirs.hash(ONE, &password).await.unwrap();
        for planted in [planted, PasswordRecord::from_sealed(b"$argon2id$v=19$m=8,t=1,p=1$".to_vec())] {
            let verdict = passwords.verify(KNOWN, password.typed(), Some((ONE, &planted))).await.unwrap();
            assert_eq!(verdict, Verdict::Wrong);
        }
    }

    #[tokio::test]
    async fn a_hash_is_old_when_the_parameters_rose() {
        let master = Arc::new(MasterKeys::for_tests());
        let password = Password::parse("correct horse battery").unwrap();
        let low = Passwords::new(cheap(64, 1), master.clone());
        let high = Passwords::new(cheap(128, 1), master);
        let record = low.hash(ONE, &password).await.unwrap();
        let verdict = async |passwords: &Passwords, record: &PasswordRecord| {
            passwords.verify(KNOWN, password.typed(), Some((ONE, record))).await.unwrap()
        };
        assert_eq!(verdict(&low, &record).await, Verdict::Right);
        assert_eq!(verdict(&high, &record).await, Verdict::RightButOutdated);
        let rehashed = high.rehash(ONE, password.typed()).await.unwrap();
        // Lower parameters are no reason to weaken an existing hash.
        assert_eq!(
            (verdict(&high, &rehashed).await, verdict(&low, &rehashed).await),
            (Verdict::Right, Verdict::Right)
        );
    }

    #[tokio::test]
    async fn a_hash_with_larger_parameters_takes_more_slots() {
        let master = Arc::new(MasterKeys::for_tests());
        let password = Password::parse("correct horse battery").unwrap();
        let record = Passwords::new(cheap(3 << 10, 3), master.clone()).hash(ONE, &password).await.unwrap();
        let verify =
            async |today: &Passwords| today.verify(KNOWN, password.typed(), Some((ONE, &record))).await;
        let today = Passwords::new(cheap(2 << 10, 4), master.clone());
        assert_eq!(verify(&today).await.unwrap(), Verdict::Right);
        assert_eq!(today.places.all(), 2);
        let taken = today.places.take(KNOWN, 1).await.unwrap();
        let mut heavy = std::pin::pin!(verify(&today));
        let mut context = Context::from_waker(Waker::noop());
        assert!(heavy.as_mut().poll(&mut context).is_pending(), "one place is not enough");
        drop(taken);
        assert_eq!(heavy.await.unwrap(), Verdict::Right);
        // A hash that takes more slots than there are runs when no other one does.
        let least = Passwords::new(cheap(1 << 10, 2), master);
        assert_eq!(verify(&least).await.unwrap(), Verdict::Right);
    }

    #[tokio::test]
    async fn an_org_of_which_more_wait_gives_way() {
        let passwords = Passwords::new(cheap(1 << 10, 1), Arc::new(MasterKeys::for_tests()));
        let (places, threads) = (&passwords.places, passwords.threads.as_ref().unwrap());
        let runs_on = |place: &Place, expected: &Runtime| std::ptr::eq(threads.of(KNOWN, place), expected);
        let alone = places.take(KNOWN, 1).await.unwrap();
        assert!(runs_on(&alone, &threads.known));
        let (mut first, mut second) =
            (std::pin::pin!(places.take(KNOWN, 1)), std::pin::pin!(places.take(KNOWN, 1)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(alone);
        let one_of_many = first.await.unwrap();
        assert!(runs_on(&one_of_many, &threads.known_many));
        drop(one_of_many);
        assert!(runs_on(&second.await.unwrap(), &threads.known));
    }

    #[tokio::test]
    async fn the_parameters_of_production() {
        let hashing = PasswordHashing::FLOOR;
        let master = Arc::new(MasterKeys::for_tests());
        let passwords = Passwords::new(hashing, master.clone());
        let password = Password::parse("correct horse battery").unwrap();
        let record = passwords.hash(ONE, &password).await.unwrap();
        let phc = master.open(SealPurpose::Password, &bound_to(ONE), record.sealed()).unwrap();
        let phc = std::str::from_utf8(&phc).unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert_eq!(
            passwords.verify(KNOWN, password.typed(), Some((ONE, &record))).await.unwrap(),
            Verdict::Right
        );
        assert!(!format!("{record:?} {passwords:?}").contains("argon2"));
    }
}
