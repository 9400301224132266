import { setMaxListeners } from "node:events";
import { Channel, type ConnectionOptions } from "./channel.js";
import { Backoff, sleep } from "./clock.js";
import { type Credential, type SubjectReader, readerOf } from "./credential.js";
import { CountersignError, type Reason } from "./errors.js";
import { type Exchange, type TokenRequest, overGrpc, overHttp } from "./exchange.js";

export interface TokenSourceOptions extends ConnectionOptions {
  credential: Credential;
  /** Over gRPC, or as `POST /oauth2/token`. Default: `grpc`. */
  transport?: "grpc" | "http";
  /** The issuer of the deployment, which assertions of a key are for. Default: the endpoint. */
  issuer?: string;
  /** The purpose of the token, where it has one. */
  purpose?: string;
  /** Bind each JWT to the client certificate. */
  certificateBound?: boolean;
}

export interface GetOptions {
  /** The permissions that the JWT carries. Default: all that the credential holds. */
  scopes?: readonly string[];
  /** The lifetime to ask for, in seconds. */
  ttl?: number;
  /** How long to wait at most, in seconds. Default: 10. */
  timeout?: number;
  signal?: AbortSignal;
}

export interface AccessToken {
  accessToken: string;
  /** Unix time, by the server's clock. */
  expireTime: number;
}

interface Entry {
  key: string;
  request: TokenRequest;
  token?: AccessToken | undefined;
  /** Monotonic times. */
  obtained: number;
  refreshAt: number;
  end: number;
  lastUse: number;
  /** Until when a caller waits. */
  awaitedUntil: number;
  flight?: Promise<AccessToken> | undefined;
  timer?: NodeJS.Timeout | undefined;
  lastError?: CountersignError | undefined;
}

/** At these the credential itself is at its end: nothing else is to be had with it. */
const FINAL = new Set<Reason>(["TOKEN_INVALID", "TOKEN_REVOKED", "TOKEN_EXPIRED", "CREDENTIAL_MISSING"]);
/** These can be lifted. */
const SUSPENDED = new Set<Reason>(["TOKEN_BLOCKED", "ACCOUNT_DEACTIVATED", "ORG_SUSPENDED"]);

const MAX_ENTRIES = 1_000;
const TIMEOUT = 10;
/** Of one exchange, in seconds. */
const ATTEMPT = 10;
/** What was not used for so long is not refreshed any more. */
const IDLE = 600;
/** How often a file is checked for a change, in seconds, beside each exchange. */
const FILE_EVERY = 5;

/**
 * JWTs for a credential: exchanged once, cached by audiences and scopes, refreshed in the background before they
 * expire, and kept in use while the server is away.
 */
export class TokenSource {
  readonly #exchange: Exchange;
  readonly #reader: SubjectReader;
  readonly #channel: Channel | undefined;
  readonly #purpose: string | undefined;
  readonly #certificateBound: boolean;
  readonly #entries = new Map<string, Entry>();
  readonly #backoff = new Backoff(0.1, 30);
  readonly #closed = new AbortController();
  #exchanges = 0;
  /** Since the server failed: no request before then. */
  #notBefore = 0;
  /** The error at which the credential ended, the version of the credential, and when it may be tried again. */
  #ended: { error: CountersignError; version: number; retryAt: number; wait: number } | undefined;
  #fileSeen = now();

  constructor(options: TokenSourceOptions) {
    // One listener for each wait.
    setMaxListeners(0, this.#closed.signal);
    this.#reader = readerOf(options.credential, options.issuer ?? options.endpoint);
    this.#purpose = options.purpose;
    this.#certificateBound = options.certificateBound ?? false;
    if (options.transport === "http") {
      this.#exchange = overHttp(options);
    } else {
      this.#channel = new Channel(options);
      this.#exchange = overGrpc(this.#channel);
    }
  }

  /** A JWT for these audiences; without one, for Countersign's own API. */
  async get(audiences: string | readonly string[] = [], options: GetOptions = {}): Promise<string> {
    return (await this.token(audiences, options)).accessToken;
  }

  /** The same with its end. */
  async token(audiences: string | readonly string[] = [], options: GetOptions = {}): Promise<AccessToken> {
    const entry = this.#entry(audiences, options);
    entry.lastUse = now();
    this.#lookAtFile();
    if (entry.token && now() < entry.end) {
      if (now() >= entry.refreshAt) this.#inBackground(entry);
      return entry.token;
    }
    entry.awaitedUntil = Math.max(entry.awaitedUntil, now() + (options.timeout ?? TIMEOUT));
    return waited(this.#refresh(entry), entry, options);
  }

  /** The JWT was refused as stale: the next `get` exchanges anew. */
  invalidate(accessToken: string): void {
    for (const entry of this.#entries.values()) {
      // One that was just made is not made again at once: a service that refuses it refuses the next one, too.
      if (entry.token?.accessToken === accessToken && now() - entry.obtained >= 1) forget(entry);
    }
  }

  /** How many JWTs are cached, and how many requests were sent. */
  get statistics(): { cached: number; exchanges: number } {
    return {
      cached: [...this.#entries.values()].filter((entry) => hasToken(entry)).length,
      exchanges: this.#exchanges,
    };
  }

  /** Ends what runs in the background. */
  close(): void {
    this.#closed.abort();
    for (const entry of this.#entries.values()) clearTimeout(entry.timer);
    this.#entries.clear();
    this.#channel?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #entry(audiences: string | readonly string[], { scopes = [], ttl }: GetOptions): Entry {
    const request: TokenRequest = {
      audiences: asSet(typeof audiences === "string" ? [audiences] : audiences),
      scopes: asSet(scopes),
      ttl,
      purpose: this.#purpose,
      certificateBound: this.#certificateBound,
    };
    const key = JSON.stringify([request.audiences, request.scopes, ttl ?? null]);
    const none = { obtained: 0, refreshAt: 0, end: 0, lastUse: 0, awaitedUntil: 0 };
    const entry = this.#entries.get(key) ?? { key, request, ...none };
    // The order of the map is that of use.
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    for (const [oldest, { timer }] of this.#entries) {
      if (this.#entries.size <= MAX_ENTRIES) break;
      clearTimeout(timer);
      this.#entries.delete(oldest);
    }
    return entry;
  }

  #refresh(entry: Entry): Promise<AccessToken> {
    entry.flight ??= this.#fly(entry).finally(() => {
      entry.flight = undefined;
    });
    return entry.flight;
  }

  #inBackground(entry: Entry): void {
    this.#refresh(entry).catch(() => {
      // Who needs it gets the error.
    });
  }

  /** Exchanges, again and again while that may help and the JWT is wanted. */
  async #fly(entry: Entry): Promise<AccessToken> {
    for (;;) {
      await this.#mayExchange();
      if (now() < this.#notBefore) await sleep(this.#notBefore - now(), this.#closed.signal);
      if (this.#closed.signal.aborted) {
        throw new CountersignError({ code: "CANCELLED", reason: "", message: "the token source is closed" });
      }
      try {
        return await this.#attempt(entry);
      } catch (thrown) {
        const error = CountersignError.from(thrown);
        entry.lastError = error;
        if (error.retryable) {
          this.#postpone(error.retryAfter ?? 0);
          // Else there is no hurry: the next `get` goes on.
          if (hasToken(entry) || now() < entry.awaitedUntil) continue;
        } else if (hasToken(entry)) {
          entry.refreshAt = now() + Math.max(1, (entry.end - now()) / 4);
          this.#schedule(entry);
        }
        throw error;
      }
    }
  }

  /** Of the exchanges that failed together one alone lengthens the wait. */
  #postpone(retryAfter: number): void {
    const until = now() + (now() >= this.#notBefore ? this.#backoff.next(retryAfter) : retryAfter);
    this.#notBefore = Math.max(this.#notBefore, until);
  }

  /** Throws the reason for which the credential ended, unless it has changed or may be tried again. */
  async #mayExchange(): Promise<void> {
    const ended = this.#ended;
    if (!ended) return;
    if ((await this.#reader.changed()) || this.#reader.version !== ended.version) {
      this.#ended = undefined;
    } else if (!SUSPENDED.has(ended.error.reason) || now() < ended.retryAt) {
      throw ended.error;
    }
  }

  async #attempt(entry: Entry): Promise<AccessToken> {
    const subject = await this.#reader.read();
    const { version } = this.#reader;
    const began = now();
    this.#exchanges += 1;
    try {
      const { accessToken, expireTime, life } = await this.#exchange(subject, entry.request, ATTEMPT);
      this.#ended = undefined;
      if (now() >= began + life) {
        throw new CountersignError({
          code: "DEADLINE_EXCEEDED",
          reason: "",
          message: "the answer took longer than its JWT lives",
        });
      }
      this.#backoff.reset();
      this.#notBefore = 0;
      entry.token = { accessToken, expireTime };
      entry.lastError = undefined;
      entry.obtained = began;
      entry.end = began + life;
      entry.refreshAt = began + life * (2 / 3) * (0.9 + Math.random() * 0.2);
      this.#schedule(entry);
      return entry.token;
    } catch (thrown) {
      const error = CountersignError.from(thrown);
      if (FINAL.has(error.reason) || SUSPENDED.has(error.reason)) this.#end(error, version);
      throw error;
    }
  }

  #end(error: CountersignError, version: number): void {
    const wait = Math.min(60, (this.#ended?.wait ?? 0.5) * 2);
    this.#ended = { error, version, retryAt: now() + wait, wait };
    for (const entry of this.#entries.values()) forget(entry);
  }

  #schedule(entry: Entry): void {
    clearTimeout(entry.timer);
    // It may have given way to others meanwhile.
    if (this.#entries.get(entry.key) !== entry) return;
    const isUsed = () => entry.lastUse >= entry.obtained || now() - entry.lastUse < IDLE;
    entry.timer = setTimeout(
      () => {
        if (hasToken(entry) && isUsed()) this.#inBackground(entry);
      },
      Math.max(0, entry.refreshAt - now()) * 1000,
    );
    entry.timer.unref();
  }

  /** Where a file has another credential, the JWTs of the one before are replaced before they end. */
  #lookAtFile(): void {
    if (now() - this.#fileSeen < FILE_EVERY) return;
    this.#fileSeen = now();
    void this.#reader.changed().then((changed) => {
      if (!changed || this.#closed.signal.aborted) return;
      for (const entry of this.#entries.values()) if (hasToken(entry)) this.#inBackground(entry);
    });
  }
}

function now(): number {
  return performance.now() / 1000;
}

function hasToken(entry: Entry): boolean {
  return entry.token !== undefined && now() < entry.end;
}

function forget(entry: Entry): void {
  clearTimeout(entry.timer);
  entry.token = undefined;
  entry.end = 0;
}

function asSet(texts: readonly string[]): string[] {
  return [...new Set(texts)].sort();
}

/** The JWT, or the last error once the caller has waited long enough. */
function waited(
  flight: Promise<AccessToken>,
  entry: Entry,
  { timeout = TIMEOUT, signal }: GetOptions,
): Promise<AccessToken> {
  return new Promise((resolve, reject) => {
    const unavailable = { code: "UNAVAILABLE", reason: "UNAVAILABLE", message: "no JWT within the timeout" } as const;
    const stop = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancelled);
    };
    const cancelled = () => {
      stop();
      reject(new CountersignError({ code: "CANCELLED", reason: "", message: "cancelled", cause: signal?.reason }));
    };
    const timer = setTimeout(() => {
      stop();
      reject(entry.lastError ?? new CountersignError({ ...unavailable, retryable: true }));
    }, timeout * 1000);
    flight.then(resolve, reject).finally(stop);
    if (signal?.aborted) cancelled();
    else signal?.addEventListener("abort", cancelled);
  });
}
