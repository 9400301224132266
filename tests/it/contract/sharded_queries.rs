//! Every checked query runs on a sharded engine: a parser holds the rules that each one that was refused there
//! broke. `docs/operate/scale.md` names them for people.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use countersign::db::distribution::{self, Class};
use sqlparser::ast::{
    Assignment, BinaryOperator, Delete, Expr, FromTable, Insert, JoinConstraint, JoinOperator, ObjectName,
    Query, Select, SetExpr, Statement, TableFactor, TableObject, TableWithJoins, Update, UpdateTableFromKind,
    Value, Visit, Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// A rule of queries.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Rule {
    /// Each alias of a distributed table has `column = $n` in the WHERE or ON of its own level, with one `$n`
    /// for all of them. Where it is the only one, `column = any($n)` does as well.
    OwnCondition,
    /// The tables of a statement are of one group.
    OneGroup,
    /// A row is locked only with `column = $n`.
    LocksOneShard,
    /// No subscript of an array in the SET of an UPDATE: it ends the coordinator.
    NoSubscript,
    /// The VALUES of an INSERT into a distributed table hold no subselect, and its column is a parameter.
    PlainValues,
    /// No `insert … select` into a distributed table: an error in it loses its SQLSTATE.
    NoInsertSelect,
    /// Time and randomness are parameters.
    NothingVolatile,
    /// Each table stands in the registry.
    Known,
}

/// Queries that break a rule, by what is in them and in no other, and why they may.
const EXCEPTIONS: &[(&str, Rule, &str)] = &[
    // Sweeps: once in a while, over all orgs, by an index on the age.
    ("delete from event_resources where create_time", Rule::OwnCondition, "sweep of old events"),
    ("delete from events where create_time", Rule::OwnCondition, "sweep of old events"),
    ("delete from presentations where last_time", Rule::OwnCondition, "sweep of presentations"),
    ("delete from invitations where expire_time", Rule::OwnCondition, "sweep of invitations"),
    ("delete from requests where create_time", Rule::OwnCondition, "sweep of request ids"),
    ("delete from token_secrets where expire_time", Rule::OwnCondition, "sweep of retired secrets"),
    ("delete from verifiers where seen_time", Rule::OwnCondition, "sweep of verifiers"),
    (
        "from verifiers where $1 = any(held_key_ids)",
        Rule::OwnCondition,
        "revoking a signing key counts verifiers",
    ),
    ("delete from used_assertions where keep_until", Rule::OwnCondition, "sweep of used assertions"),
    ("delete from sessions where session_id = any", Rule::OwnCondition, "sweep of sessions"),
    ("password_made_by from sessions where expire_time", Rule::OwnCondition, "sweep of sessions"),
    (
        "from accounts where delete_time is not null and delete_time <=",
        Rule::OwnCondition,
        "purge of accounts",
    ),
    ("from accounts where search_pieces is null limit 1", Rule::OwnCondition, "backfill: finds an org"),
    // Background work over all orgs, in pages.
    ("reminded_days is null and expire_time <= $2", Rule::OwnCondition, "reminders"),
    (
        "distinct s.pepper_id as \"pepper_id!\" from token_secrets",
        Rule::OwnCondition,
        "peppers that are still used",
    ),
    ("distinct pepper_id from sessions", Rule::OwnCondition, "peppers that are still used"),
    ("select org_id from passwords where $1::uuid", Rule::OwnCondition, "re-sealing: finds an org"),
    (
        "from passwords where $1::uuid is null or (org_id, account_id) > ($1, $2::uuid) order by org_id, account_id limit $3",
        Rule::OwnCondition,
        "check of what is sealed",
    ),
    ("update passwords p set sealed = n.sealed", Rule::OwnCondition, "re-sealing, in batches"),
    ("select org_id from token_secrets where sealed", Rule::OwnCondition, "re-sealing: finds an org"),
    (
        "from token_secrets where sealed is not null and ($1::uuid is null or (org_id, token_id, secret_number) > ($1, $2::uuid, $3::integer)) order by org_id, token_id, secret_number limit $4",
        Rule::OwnCondition,
        "check of what is sealed",
    ),
    ("update token_secrets s set sealed = n.sealed", Rule::OwnCondition, "re-sealing, in batches"),
    ("select org_id from issuers where $1::uuid", Rule::OwnCondition, "re-sealing: finds an org"),
    (
        "from issuers where $1::uuid is null or (org_id, issuer_id) > ($1, $2::uuid) order by org_id, issuer_id limit $3",
        Rule::OwnCondition,
        "check of what is sealed",
    ),
    ("update issuers i set sealed = n.sealed", Rule::OwnCondition, "re-sealing, in batches"),
    ("select org_id from federation_rules where $1::uuid", Rule::OwnCondition, "re-sealing: finds an org"),
    (
        "from federation_rules where $1::uuid is null or (org_id, rule_id) > ($1, $2::uuid) order by org_id, rule_id limit $3",
        Rule::OwnCondition,
        "check of what is sealed",
    ),
    ("update federation_rules r set sealed = n.sealed", Rule::OwnCondition, "re-sealing, in batches"),
    ("update token_secrets s set mac = n.mac", Rule::OwnCondition, "re-hashed secrets, in batches"),
    ("update token_secrets s set last_use_address", Rule::OwnCondition, "last uses, in batches"),
    ("update sessions s set use_time", Rule::OwnCondition, "last uses, in batches"),
    ("update federation_rules r set last_use_address", Rule::OwnCondition, "last uses, in batches"),
    ("insert into presentations", Rule::OwnCondition, "presentations, in batches"),
    // An error is of no use to it: what could not be written is left out.
    ("insert into presentations", Rule::NoInsertSelect, "presentations, in batches"),
    ("select p.org_id, p.rule_id from presentations p", Rule::OwnCondition, "presentations, in batches"),
    ("delete from presentations p using", Rule::OwnCondition, "presentations, in batches"),
    // A compromise is rare, and concerns every org.
    ("from credentials where made_by = any", Rule::OwnCondition, "what a compromised credential made"),
    ("from token_secrets where made_by = any", Rule::OwnCondition, "what a compromised credential made"),
    ("from accounts where made_by = any", Rule::OwnCondition, "what a compromised credential made"),
    ("from passwords where made_by = any", Rule::OwnCondition, "what a compromised credential made"),
    ("from sessions where password_made_by = any", Rule::OwnCondition, "what a compromised credential made"),
    ("from invitations where credential_id = any", Rule::OwnCondition, "what a compromised credential made"),
    ("update credentials c set made_by", Rule::OwnCondition, "what a session made that is swept"),
    ("update token_secrets s set made_by", Rule::OwnCondition, "what a session made that is swept"),
    ("update accounts a set made_by", Rule::OwnCondition, "what a session made that is swept"),
    ("update passwords p set made_by", Rule::OwnCondition, "what a session made that is swept"),
    ("update invitations i set credential_id", Rule::OwnCondition, "what a session made that is swept"),
    ("update sessions s set password_made_by", Rule::OwnCondition, "what a session made that is swept"),
    ("from federation_rules where makers", Rule::OwnCondition, "what a compromised credential made"),
    ("from issuers where makers", Rule::OwnCondition, "what a compromised credential made"),
    ("update federation_rules r set makers", Rule::OwnCondition, "what a session made that is swept"),
    ("update issuers i set makers", Rule::OwnCondition, "what a session made that is swept"),
    // A cluster has statements of its own.
    ("case when c.org_id is null then $3", Rule::OwnCondition, "loads, on one PostgreSQL server only"),
    ("case when c.org_id is null then $3", Rule::OneGroup, "loads, on one PostgreSQL server only"),
    // An operator's list.
    ("from orgs where $1::uuid is null or org_id > $1", Rule::OwnCondition, "ListOrgs of an operator"),
    ("select 1 from orgs limit $1", Rule::OwnCondition, "ListOrgs of an operator"),
    // No error is expected of them but a conflict, which `on conflict` takes.
    (
        "returning org_id, event_id, create_time ) insert into event_resources",
        Rule::NoInsertSelect,
        "a COPY, which makes the commit two-phase on purpose",
    ),
    // A cluster has statements of its own.
    (
        "named as ( insert into event_resources",
        Rule::NoInsertSelect,
        "an event, on one PostgreSQL server only",
    ),
    ("named as ( insert into event_resources", Rule::OneGroup, "an event, on one PostgreSQL server only"),
    ("insert into grants", Rule::NoInsertSelect, "roles and resources are locked before"),
    ("insert into named_permissions", Rule::NoInsertSelect, "it refers to nothing"),
    (
        "insert into used_assertions (signer_id, jti_hash, keep_until) select",
        Rule::NoInsertSelect,
        "it refers to nothing",
    ),
    (
        "insert into used_assertions (signer_id, jti_hash, keep_until, rule_id) select",
        Rule::NoInsertSelect,
        "it refers to nothing",
    ),
    (
        "insert into resources (org_id, path, parent, revision",
        Rule::NoInsertSelect,
        "parents are in the statement",
    ),
];

/// The functions that are queried like tables.
const FUNCTIONS: &[&str] = &["unnest", "pg_control_system"];
/// What returns another value on each worker, or at each call.
const VOLATILE: &[&str] = &[
    "now",
    "random",
    "gen_random_uuid",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "nextval",
    "current_timestamp",
    "current_date",
    "localtimestamp",
];

#[test]
fn every_query_keeps_the_rules() {
    let queries = queries();
    assert!(queries.len() > 200, "{} queries", queries.len());
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for query in &queries {
        let mut broken = broken(query);
        let flat = flat(query);
        for (index, (part, rule, _)) in EXCEPTIONS.iter().enumerate() {
            if flat.contains(part) && broken.remove(rule).is_some() {
                used.insert(index);
            }
        }
        wrong.extend(broken.into_iter().map(|(rule, what)| format!("{rule:?}: {what}: {flat}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
    let unused: Vec<_> = (0..EXCEPTIONS.len()).filter(|index| !used.contains(index)).collect();
    assert!(unused.is_empty(), "exceptions without a query: {:?}", unused.iter().map(|i| EXCEPTIONS[*i].0));
    for (part, _, _) in EXCEPTIONS {
        let of = queries.iter().filter(|query| flat(query).contains(part)).count();
        assert_eq!(of, 1, "{part}");
    }
}

/// Each was in the code once and was refused by the engine, or ended its coordinator.
#[test]
fn what_the_engine_refused_is_found() {
    for (query, rule) in [
        (
            "select org_id, (select jsonb_agg(l.slug) from account_links l
                             where l.org_id = a.org_id and l.account_id = a.account_id) as links
             from accounts a where org_id = $1 and account_id = $2",
            Rule::OwnCondition,
        ),
        (
            "select token_id, (select a.kind from accounts a
                               where a.org_id = t.org_id and a.account_id = t.account_id) as owner_kind
             from tokens t where t.org_id = $1",
            Rule::OwnCondition,
        ),
        (
            "select s.numbers from tokens t cross join lateral (
                 select array_agg(secret_number) as numbers from token_secrets
                 where org_id = t.org_id and token_id = t.token_id) s
             where t.org_id = $1",
            Rule::OwnCondition,
        ),
        (
            "select a.kind from accounts a join orgs o on o.org_id = a.org_id where a.org_id = $1",
            Rule::OwnCondition,
        ),
        (
            "select m.version from memberships m join orgs h on h.org_id = $3 where m.org_id = $1",
            Rule::OwnCondition,
        ),
        (
            "select 1 from accounts a join orgs o on o.org_id = any($1) where a.org_id = $2",
            Rule::OwnCondition,
        ),
        ("select 1 from tokens where org_id = $1 or token_id = $2", Rule::OwnCondition),
        ("select 1 from tokens where org_id <> $1", Rule::OwnCondition),
        ("delete from tokens where token_id = $1", Rule::OwnCondition),
        ("update tokens set kind = $2 where token_id = $1", Rule::OwnCondition),
        ("select 1 from usernames where org_id = $1", Rule::OwnCondition),
        (
            "select p.pepper_id from peppers p where not exists (
                 select 1 from sessions s where s.org_id = $1 and s.pepper_id = p.pepper_id)",
            Rule::OneGroup,
        ),
        (
            "select o.org_id from account_orgs m join orgs o on o.org_id = $2 where m.account_id = $2",
            Rule::OneGroup,
        ),
        (
            "with gone as (delete from sessions where org_id = $1 returning session_id)
             insert into codes (code_id) select session_id from gone",
            Rule::OneGroup,
        ),
        (
            "select org_id from orgs where org_id = any($1) order by org_id for no key update",
            Rule::LocksOneShard,
        ),
        ("select org_id from accounts where account_id = $1 for key share", Rule::LocksOneShard),
        (
            "update accounts a set search_pieces = ($6::bigint[])[found.first:found.last]
             from unnest($2::uuid[], $4::integer[], $5::integer[]) as found (account_id, first, last)
             where a.org_id = $1 and a.account_id = found.account_id",
            Rule::NoSubscript,
        ),
        (
            "insert into tokens (org_id, token_id) values ($1, (select token_id from credentials))",
            Rule::PlainValues,
        ),
        ("insert into tokens (token_id) values ($1)", Rule::PlainValues),
        ("insert into slugs (slug, org_id) values (lower($1), $2)", Rule::PlainValues),
        (
            "insert into account_links (org_id, kind) select $1, kind from unnest($2::text[]) as new (kind)",
            Rule::NoInsertSelect,
        ),
        ("update tokens set revoke_time = now() where org_id = $1", Rule::NothingVolatile),
        ("select 1 from subscriptions where org_id = $1", Rule::Known),
    ] {
        let broken = broken(query);
        assert!(broken.contains_key(&rule), "{rule:?} is not found in {query}: {broken:?}");
    }
}

/// The texts of all queries that the compiler checks.
fn queries() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let texts = files.map(|path| {
        let described: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        described["query"].as_str().unwrap().to_owned()
    });
    texts.collect()
}

fn flat(query: &str) -> String {
    query.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The rules that a query breaks, each with what breaks it.
fn broken(sql: &str) -> BTreeMap<Rule, String> {
    // The parser does not know the weaker locks.
    let sql = sql.replace("for no key update", "for update").replace("for key share", "for share");
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, &sql).unwrap_or_else(|e| panic!("{e}: {sql}"));
    let [statement] = &statements[..] else { panic!("one statement: {sql}") };
    let mut names = Names::default();
    let _ = statement.visit(&mut names);
    let mut checks = Checks { with: names.with, ..Checks::default() };
    let _ = statement.visit(&mut checks);
    checks.finish()
}

/// The names that `with` gives.
#[derive(Default)]
struct Names {
    with: BTreeSet<String>,
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.with.extend(with.map(|cte| cte.alias.name.value.clone()));
        ControlFlow::Continue(())
    }
}

/// A distributed table at one level of a statement.
struct Distributed {
    alias: String,
    column: &'static str,
}

#[derive(Default)]
struct Checks {
    with: BTreeSet<String>,
    broken: BTreeMap<Rule, String>,
    /// The groups of the tables.
    groups: BTreeSet<String>,
    /// The parameters that the columns are compared with.
    parameters: BTreeSet<String>,
    /// How many distributed tables there are in all, and for how many `= any($n)` stands.
    tables: usize,
    of_many: usize,
}

impl Checks {
    fn breaks(&mut self, rule: Rule, what: impl Into<String>) {
        self.broken.entry(rule).or_insert(what.into());
    }

    fn finish(mut self) -> BTreeMap<Rule, String> {
        if self.groups.len() > 1 {
            self.breaks(Rule::OneGroup, format!("{:?}", self.groups));
        }
        if self.parameters.len() > 1 {
            self.breaks(Rule::OwnCondition, format!("two parameters: {:?}", self.parameters));
        }
        if self.of_many > 0 && self.tables > 1 {
            self.breaks(Rule::OwnCondition, "any() beside another table");
        }
        self.broken
    }

    /// Enters the table in the statement's groups. Its distribution column, if it has one.
    fn enter(&mut self, name: &ObjectName) -> Option<&'static str> {
        let name = name.to_string();
        if self.with.contains(&name) || name.starts_with("pg_") {
            return None;
        }
        let Some(class) = distribution::class(&name) else {
            self.breaks(Rule::Known, name);
            return None;
        };
        self.groups.insert(match class {
            Class::Org => "of an org".to_owned(),
            Class::Lookup(_) => name,
            Class::Local => "local".to_owned(),
        });
        self.tables += usize::from(class.column().is_some());
        class.column()
    }

    /// The distributed tables of one level, and its conditions.
    fn level(&mut self, from: &[TableWithJoins], selection: Option<&Expr>) -> bool {
        let (mut tables, mut conditions) = (Vec::new(), Vec::new());
        for table in from {
            self.factor(&table.relation, &mut tables);
            for join in &table.joins {
                self.factor(&join.relation, &mut tables);
                conditions.extend(on(&join.join_operator).into_iter().flat_map(conjuncts));
            }
        }
        conditions.extend(selection.into_iter().flat_map(conjuncts));
        self.compared(&tables, &conditions)
    }

    /// Whether each of the tables is compared with one parameter, and not with many.
    fn compared(&mut self, tables: &[Distributed], conditions: &[&Expr]) -> bool {
        let mut each = true;
        for table in tables {
            let found = conditions.iter().find_map(|condition| compares(condition, table, tables.len() == 1));
            match found {
                Some((parameter, false)) => drop(self.parameters.insert(parameter)),
                Some((_, true)) => {
                    self.of_many += 1;
                    each = false;
                }
                None => {
                    self.breaks(Rule::OwnCondition, format!("{} has none", table.alias));
                    each = false;
                }
            }
        }
        each
    }

    fn factor(&mut self, factor: &TableFactor, tables: &mut Vec<Distributed>) {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                if let Some(column) = self.enter(name) {
                    let alias = alias.as_ref().map_or(name.to_string(), |alias| alias.name.value.clone());
                    tables.push(Distributed { alias, column });
                }
            }
            TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => {
                assert!(FUNCTIONS.contains(&name.to_string().as_str()), "a function in FROM: {name}");
            }
            // A level of its own.
            TableFactor::Derived { .. } | TableFactor::UNNEST { .. } => {}
            other => panic!("not known in FROM: {other}"),
        }
    }

    fn insert(&mut self, insert: &Insert) {
        let TableObject::TableName(table) = &insert.table else { panic!("an insert into a function") };
        let Some(column) = self.enter(table) else { return };
        let Some(place) = insert.columns.iter().position(|name| name.to_string() == column) else {
            return self.breaks(Rule::PlainValues, format!("{column} is not inserted"));
        };
        match insert.source.as_ref().map(|source| &*source.body) {
            Some(SetExpr::Values(values)) => {
                for row in &values.rows {
                    match row.get(place).and_then(parameter) {
                        Some(parameter) => drop(self.parameters.insert(parameter)),
                        None => self.breaks(Rule::PlainValues, format!("{column} is no parameter")),
                    }
                    if row.iter().any(contains_query) {
                        self.breaks(Rule::PlainValues, "a subselect");
                    }
                }
            }
            _ => self.breaks(Rule::NoInsertSelect, table.to_string()),
        }
    }

    fn update(&mut self, update: &Update) {
        let mut from = vec![update.table.clone()];
        if let Some(UpdateTableFromKind::BeforeSet(tables) | UpdateTableFromKind::AfterSet(tables)) =
            &update.from
        {
            from.extend(tables.iter().cloned());
        }
        self.level(&from, update.selection.as_ref());
        for Assignment { target, value } in &update.assignments {
            if format!("{value:?}").contains("Subscript(") || format!("{target:?}").contains("Subscript(") {
                self.breaks(Rule::NoSubscript, value.to_string());
            }
        }
    }

    fn delete(&mut self, delete: &Delete) {
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        let mut from = from.clone();
        from.extend(delete.using.iter().flatten().cloned());
        self.level(&from, delete.selection.as_ref());
    }
}

impl Visitor for Checks {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        match statement {
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete(delete) => self.delete(delete),
            Statement::Query(_) => {}
            other => panic!("not known: {other}"),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if !query.locks.is_empty() {
            let SetExpr::Select(select) = &*query.body else { panic!("a lock on {query}") };
            let mut own = Self { with: self.with.clone(), ..Self::default() };
            if !own.level(&select.from, select.selection.as_ref()) {
                self.breaks(Rule::LocksOneShard, select.from[0].to_string());
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.level(&select.from, select.selection.as_ref());
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            let name = function.name.to_string().to_lowercase();
            if VOLATILE.contains(&name.as_str()) {
                self.breaks(Rule::NothingVolatile, name);
            }
        }
        ControlFlow::Continue(())
    }
}

fn on(join: &JoinOperator) -> Option<&Expr> {
    match join {
        JoinOperator::Join(JoinConstraint::On(on))
        | JoinOperator::Inner(JoinConstraint::On(on))
        | JoinOperator::Left(JoinConstraint::On(on))
        | JoinOperator::LeftOuter(JoinConstraint::On(on)) => Some(on),
        JoinOperator::CrossJoin(_) => None,
        other => panic!("not known: {other:?}"),
    }
}

/// What is joined by AND.
fn conjuncts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            [conjuncts(left), conjuncts(right)].concat()
        }
        Expr::Nested(inner) => conjuncts(inner),
        other => vec![other],
    }
}

/// The parameter that the condition compares the table's column with, and whether it stands for many values.
fn compares(condition: &Expr, table: &Distributed, alone: bool) -> Option<(String, bool)> {
    let is_column = |expr: &Expr| match expr {
        Expr::Identifier(name) => alone && name.value == table.column,
        Expr::CompoundIdentifier(names) => {
            matches!(&names[..], [of, name] if of.value == table.alias && name.value == table.column)
        }
        _ => false,
    };
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if is_column(left) => {
            Some((parameter(right)?, false))
        }
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } if is_column(left) => {
            Some((parameter(right)?, true))
        }
        _ => None,
    }
}

fn parameter(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => Some(name.clone()),
            _ => None,
        },
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => parameter(inner),
        _ => None,
    }
}

fn contains_query(expr: &Expr) -> bool {
    struct Found(bool);
    impl Visitor for Found {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.0 = true;
            ControlFlow::Break(())
        }
    }
    let mut found = Found(false);
    let _ = expr.visit(&mut found);
    found.0
}
