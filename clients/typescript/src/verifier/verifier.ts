import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { setMaxListeners } from "node:events";
import { hostname } from "node:os";
import { type Authentication, type Bearer, bearerOf } from "../bearer.js";
import { Channel, type ConnectionOptions, http, parseEndpoint } from "../channel.js";
import { Backoff, type Clock, sleep, systemClock } from "../clock.js";
import { CountersignError, secondsOf } from "../errors.js";
import { ErrorReason } from "../gen/countersign/v1/error_reason_pb.js";
import type { Revocation as RevocationMessage } from "../gen/countersign/v1/streams_pb.js";
import { TokenService, type WatchRevocationsResponse } from "../gen/countersign/v1/token_service_pb.js";
import { parseObject } from "../json.js";
import type { Claims } from "./claims.js";
import { type Item, VerifierCore } from "./core.js";
import { MAX_KEY_SET } from "./keys.js";
import { VerificationError } from "./refusal.js";
import type { Revocation, Subject } from "./revocations.js";

interface Common extends ConnectionOptions {
  /** The exact `iss`. Default: the endpoint. */
  issuer?: string;
  /** Gets every error of the background, for a log. */
  onError?: (error: CountersignError) => void;
}

export interface WatchingOptions extends Common, Authentication {
  /** Default: `stream`. */
  revocation?: "stream";
  /** The orgs whose JWTs are verified. Default: that of the credential, with `platform.verify` every org. */
  orgIds?: readonly string[];
  /** The name by which the server lists this verifier. Default: that of the machine. */
  verifierName?: string;
  /** For how many seconds it goes on without a checkpoint of the server. Default: 30. */
  staleness?: number;
  /** Goes on beyond that, for so many seconds since the last checkpoint, 3600 at most, without knowing what ended. */
  openFor?: number;
}

/** A JWT is good until it expires, whatever has ended meanwhile. */
export interface OfflineOptions extends Common {
  revocation: "none";
}

export type VerifierOptions = WatchingOptions | OfflineOptions;

export interface VerifyOptions {
  /** The name of this service: `aud`. */
  audience: string;
  /** The tenants that the JWT may be of, by id. */
  orgs: readonly string[] | "any";
  /** The SHA-256 of the client certificate of the connection on which it came, in base64url. */
  certificateThumbprint?: string | undefined;
}

export interface OfflineTestOptions {
  staleness?: number;
  openFor?: number;
  clock?: Clock;
}

interface Internals {
  clock?: Clock;
  offline?: boolean;
}

const STALENESS = 30;
const MAX_OPEN = 3600;
/** How often keys are fetched that are not there, and a set that could not be fetched. */
const SEEK_EVERY = 30;
const LOAD_EVERY = 1;
const FETCH_TIMEOUT = 5;
/** A stream without an item for so long is dead: checkpoints come every 5 s. */
const SILENCE = 15;
const ACKNOWLEDGE_EVERY = 25;
/** How long a key set serves that no stream replaces. */
const KEY_SET_LIFE = 300;
const MAX_HELD = 20;
/** At these another JWT does. */
const STALE = new Set(["ACCESS_TOKEN_INVALID", "ACCESS_TOKEN_STALE"]);

const { watchRevocations, acknowledgeRevocations } = TokenService.method;

/** Verifies JWTs without a call, against keys and revocations that it keeps fresh in the background. */
export class Verifier {
  readonly #core: VerifierCore;
  readonly #options: VerifierOptions;
  readonly #clock: Clock;
  readonly #offline: boolean;
  readonly #channel: Channel | undefined;
  readonly #bearer: Bearer | undefined;
  readonly #closed = new AbortController();
  readonly #waiting = new Set<() => void>();
  #fetching: Promise<void> | undefined;
  #soughtAt = -Infinity;
  #failedAt = -Infinity;
  #fetches = 0;
  #keySetEnd = -Infinity;
  #acknowledgement: NodeJS.Timeout | undefined;
  #acknowledgedCursor = "";

  constructor(options: VerifierOptions, internals: Internals = {}) {
    const watching = options.revocation === "none" ? undefined : options;
    setMaxListeners(0, this.#closed.signal);
    const { staleness = STALENESS, openFor = 0 } = watching ?? {};
    requireSeconds("staleness", staleness, Infinity);
    requireSeconds("openFor", openFor, MAX_OPEN);
    this.#options = options;
    this.#clock = internals.clock ?? systemClock;
    this.#offline = internals.offline ?? false;
    this.#core = new VerifierCore({
      issuer: options.issuer ?? options.endpoint,
      revocation: watching ? "stream" : "none",
      staleness,
      openFor,
      clock: this.#clock,
    });
    if (this.#offline) return;
    parseEndpoint(options);
    if (watching) {
      if (!watching.credential && !watching.tokenSource) {
        throw new TypeError('a verifier watches with a credential; without one ask for revocation: "none"');
      }
      this.#channel = new Channel(watching);
      this.#bearer = bearerOf(watching, watching);
      void this.#watch(watching, this.#channel, this.#bearer);
    } else {
      void this.#refetch();
    }
  }

  /** One without a network, for tests: it knows what `receive` is given. */
  static offline(issuer: string, { clock, ...options }: OfflineTestOptions = {}): Verifier {
    return new Verifier({ endpoint: issuer, ...options }, { offline: true, ...(clock && { clock }) });
  }

  /** Waits until the keys and all revocations were read; rejects after so many seconds. */
  async ready(timeout = 10): Promise<void> {
    const end = performance.now() + timeout * 1000;
    while (!this.#isReady) {
      const left = end - performance.now();
      if (left <= 0 || this.#closed.signal.aborted) {
        throw new CountersignError({
          code: "UNAVAILABLE",
          reason: "VERIFIER_STALE",
          message: "keys and revocations could not be read in time",
        });
      }
      await new Promise<void>((resolve) => {
        const wake = () => {
          clearTimeout(timer);
          this.#waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, left);
        this.#waiting.add(wake);
      });
    }
  }

  /** The claims of a JWT that passes every check; else a `VerificationError`. */
  async verify(jwt: string, expected: VerifyOptions): Promise<Claims> {
    if (this.#core.options.revocation === "none" && !this.#offline && this.#clock.monotonic() > this.#keySetEnd) {
      // At the first use, or after an outage.
      await this.#load();
      if (this.#clock.monotonic() > this.#keySetEnd) {
        throw new VerificationError("VERIFIER_STALE", "fresh", "there is no recent key set");
      }
    }
    const find = this.#offline ? undefined : () => this.#seek();
    return this.#core.verify(jwt, expected, find);
  }

  /** The exact `iss` of good JWTs. */
  get issuer(): string {
    return this.#core.options.issuer;
  }

  /** For a probe or a metric. */
  get state(): {
    fresh: boolean;
    age: number | undefined;
    keyIds: string[];
    revocations: number;
    cursor: string;
    keySetFetches: number;
  } {
    const { fresh, age, keyIds, revocations, cursor } = this.#core;
    return { fresh, age, keyIds, revocations, cursor, keySetFetches: this.#fetches };
  }

  /** Ends what runs in the background. What it knows grows stale from then on. */
  close(): void {
    this.#closed.abort();
    clearTimeout(this.#acknowledgement);
    for (const wake of [...this.#waiting]) wake();
    this.#channel?.close();
    this.#bearer?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** What the stream brings. A test of a service gives it to a verifier that is offline. */
  receive(item: Item): void {
    if (!this.#core.receive(item)) {
      this.#report(new CountersignError({ code: "INTERNAL", reason: "", message: "a key set was too large" }));
    }
    if (this.#isReady) for (const wake of [...this.#waiting]) wake();
  }

  /** The stream ended with this reason. */
  cut(reason: string): void {
    this.#core.cut(reason);
  }

  get #isReady(): boolean {
    return this.#core.fresh && this.#core.keyIds.length > 0;
  }

  async #watch(options: WatchingOptions, channel: Channel, bearer: Bearer): Promise<void> {
    const backoff = new Backoff(0.1, 5);
    // What is refused is not soon allowed.
    const refusedBackoff = new Backoff(1, 30);
    const { signal } = this.#closed;
    const verifierName = options.verifierName ?? hostname().slice(0, 100);
    while (!signal.aborted) {
      let sent: string | undefined;
      let wait = () => backoff.next();
      const dead = new AbortController();
      const kill = () => dead.abort();
      signal.addEventListener("abort", kill);
      let watchdog = setTimeout(kill, SILENCE * 1000).unref();
      try {
        sent = await bearer.get();
        const request = { cursor: this.#core.cursor, orgIds: [...(options.orgIds ?? [])], verifierName };
        for await (const message of channel.stream(watchRevocations, request, { bearer: sent, signal: dead.signal })) {
          clearTimeout(watchdog);
          watchdog = setTimeout(kill, SILENCE * 1000).unref();
          const item = itemOf(message);
          if (!item) continue;
          this.receive(item);
          if ("checkpoint" in item) for (const each of [backoff, refusedBackoff]) each.reset();
          // The first cursor at once, too: until then the server has nothing to measure its lag by.
          if ("keySet" in item || ("checkpoint" in item && this.#acknowledgedCursor === "")) {
            this.#acknowledge(channel, bearer, verifierName);
          }
        }
        // It ended in good order: its connection was old enough, or the server is going.
      } catch (thrown) {
        const error = CountersignError.from(thrown);
        if (signal.aborted) break;
        this.cut(error.reason);
        if (sent !== undefined) bearer.refused(sent, error);
        const refusals = ["UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "UNIMPLEMENTED"];
        const pace = refusals.includes(error.code) && !STALE.has(error.reason) ? refusedBackoff : backoff;
        wait = () => pace.next(error.retryAfter);
        this.#report(error);
      } finally {
        clearTimeout(watchdog);
        signal.removeEventListener("abort", kill);
      }
      await sleep(wait(), signal);
    }
  }

  /** Says what is held: soon after a key set, and at least every 30 s. */
  #acknowledge(channel: Channel, bearer: Bearer, verifierName: string, soon = 0): void {
    clearTimeout(this.#acknowledgement);
    const send = async () => {
      try {
        const { cursor, keyIds } = this.#core;
        this.#acknowledgedCursor = cursor;
        const request = { verifierName, cursor, heldKeyIds: keyIds.slice(0, MAX_HELD) };
        await channel.unary(acknowledgeRevocations, request, { bearer: await bearer.get(), timeout: FETCH_TIMEOUT });
      } catch (error) {
        if (!this.#closed.signal.aborted) this.#report(CountersignError.from(error));
      }
    };
    this.#acknowledgement = setTimeout(() => {
      void send();
      if (!this.#closed.signal.aborted) this.#acknowledge(channel, bearer, verifierName, ACKNOWLEDGE_EVERY);
    }, soon * 1000);
    this.#acknowledgement.unref();
  }

  /** For a key that is not there: one fetch in 30 s, however many are asked for. */
  #seek(): Promise<void> {
    const now = this.#clock.monotonic();
    if (this.#fetching || now - this.#soughtAt < SEEK_EVERY) return this.#fetching ?? Promise.resolve();
    this.#soughtAt = now;
    return this.#fetchKeys();
  }

  /** Without a stream: where there is no recent set. */
  #load(): Promise<void> {
    if (this.#clock.monotonic() - this.#failedAt < LOAD_EVERY) return this.#fetching ?? Promise.resolve();
    return this.#fetchKeys();
  }

  /** One at a time. */
  #fetchKeys(): Promise<void> {
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = undefined;
    });
    return this.#fetching;
  }

  async #fetch(): Promise<void> {
    this.#fetches += 1;
    const url = `${this.#options.endpoint.replace(/\/$/, "")}/.well-known/jwks.json`;
    try {
      const limits = { limit: MAX_KEY_SET, timeout: FETCH_TIMEOUT };
      const { status, headers, body } = await http(this.#options, url, limits);
      const keys = parseObject(body)?.["keys"];
      if (status !== 200) throw CountersignError.fromHttp(status, headers, undefined);
      if (!Array.isArray(keys)) {
        throw new CountersignError({ code: "INTERNAL", reason: "", message: "the answer is no key set" });
      }
      if (this.#core.options.revocation === "stream") {
        this.#core.addKeys(keys);
      } else if (this.#core.replaceKeys(keys)) {
        this.#keySetEnd = this.#clock.monotonic() + KEY_SET_LIFE;
        if (this.#isReady) for (const wake of [...this.#waiting]) wake();
      }
    } catch (error) {
      this.#failedAt = this.#clock.monotonic();
      this.#report(CountersignError.from(error));
    }
  }

  /** Without a stream: the key set is read again well before it is too old. */
  async #refetch(): Promise<void> {
    const { signal } = this.#closed;
    const backoff = new Backoff(LOAD_EVERY, SEEK_EVERY);
    while (!signal.aborted) {
      const before = this.#keySetEnd;
      await this.#fetchKeys();
      if (this.#keySetEnd > before) backoff.reset();
      const left = this.#keySetEnd - this.#clock.monotonic();
      await sleep(this.#keySetEnd > before ? (left * 2) / 3 : LOAD_EVERY + backoff.next(), signal);
    }
  }

  #report(error: CountersignError): void {
    try {
      this.#options.onError?.(error);
    } catch {
      // What writes the log must not end the watch.
    }
  }
}

function requireSeconds(name: string, value: number, most: number): void {
  if (!(value >= 0 && value <= most)) {
    throw new CountersignError({
      code: "INVALID_ARGUMENT",
      reason: "INVALID_FIELD",
      message: `${name} must be 0 to ${most} seconds`,
      fieldViolations: [{ field: name, description: `must be 0 to ${most} seconds` }],
    });
  }
}

function itemOf({ item }: WatchRevocationsResponse): Item | undefined {
  switch (item.case) {
    case "keySet":
      return { keySet: item.value.keys.map(({ $typeName: _, $unknown: __, ...jwk }) => jwk) };
    case "revocation":
      return { revocation: revocationOf(item.value) };
    case "checkpoint": {
      const { cursor, time, lag } = item.value;
      return {
        checkpoint: {
          cursor,
          time: time ? secondsOfTime(time) : -Infinity,
          lag: lag ? secondsOf(lag) : 0,
        },
      };
    }
    case undefined:
      // Of a newer server. What must not be missed is a kind of revocation.
      return undefined;
  }
}

function revocationOf({ orgId, subject, minVersion, reason, expireTime }: RevocationMessage): Revocation {
  return {
    orgId,
    subject: subjectOf(subject),
    minVersion: Number(minVersion),
    reason: ErrorReason[reason],
    expireTime: expireTime && secondsOfTime(expireTime),
  };
}

function subjectOf(subject: RevocationMessage["subject"]): Subject | undefined {
  switch (subject.case) {
    case "tokenId":
      return { token_id: subject.value };
    case "secret":
      return { secret: { token_id: subject.value.tokenId, number: subject.value.number } };
    case "sessionId":
      return { session_id: subject.value };
    case "ruleId":
      return { rule_id: subject.value };
    case "accountId":
      return { account_id: subject.value };
    case "org":
      return { org: true };
    case "keyId":
      return { key_id: subject.value };
    case undefined:
      return undefined;
  }
}

function secondsOfTime(time: Timestamp): number {
  return timestampMs(time) / 1000;
}
