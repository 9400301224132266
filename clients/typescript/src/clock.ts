/** The two clocks, both in seconds. */
export interface Clock {
  /** Unix time, which may step. */
  wall(): number;
  /** Time that only passes. */
  monotonic(): number;
}

export const systemClock: Clock = {
  wall: () => Date.now() / 1000,
  monotonic: () => performance.now() / 1000,
};

/** Waits; a wait alone does not keep the process running. */
export function sleep(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.min(seconds * 1000, 2 ** 31 - 1));
    timer.unref();
    signal?.addEventListener("abort", done);
  });
}

/** Waits that double from `first` to `most` seconds, each a random part of that (full jitter). */
export class Backoff {
  readonly #first: number;
  readonly #most: number;
  #failures = 0;

  constructor(first: number, most: number) {
    this.#first = first;
    this.#most = most;
  }

  /** Seconds until the next attempt, and no less than the server said. */
  next(atLeast = 0): number {
    const limit = Math.min(this.#most, this.#first * 2 ** Math.min(this.#failures, 30));
    this.#failures += 1;
    // With the server's own time as the floor, callers that were sent away together do not return together.
    return atLeast + limit * (atLeast > 0 ? Math.random() / 2 : Math.random());
  }

  reset(): void {
    this.#failures = 0;
  }
}
