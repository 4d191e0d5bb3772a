/** pause waits, and throws the signal's reason when that comes first. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** backoff grows with each attempt, and spreads the repetitions of many clients. */
export const backoff = (attempt: number, first: number, most: number): number =>
  Math.min(most, first * 2 ** attempt) * (0.5 + Math.random() / 2);
