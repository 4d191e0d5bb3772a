/** The members of a problem document that a caller reads. */
export interface Problem {
  code: string;
  message: string;
  status: number;
  field?: string;
  details?: unknown;
  requestId?: string;
}

/**
 * KijkoError is what every failed call throws. `code` is the server's (db/errors.md), or `NETWORK_ERROR` with status 0 when no answer came,
 * or `HTTP_<status>` when a proxy answered in its place.
 */
export class KijkoError extends Error implements Problem {
  override readonly name = "KijkoError";
  readonly code: string;
  readonly status: number;
  readonly field?: string;
  readonly details?: unknown;
  readonly requestId?: string;
  /** Seconds after which a repetition makes sense. */
  readonly retryAfter?: number;

  constructor(problem: Problem & { retryAfter?: number }, cause?: unknown) {
    super(problem.message, cause === undefined ? undefined : { cause });
    this.code = problem.code;
    this.status = problem.status;
    this.field = problem.field;
    this.details = problem.details;
    this.requestId = problem.requestId;
    this.retryAfter = problem.retryAfter;
  }
}

/** errorOf reads the problem document of a failed answer. */
export async function errorOf(response: Response): Promise<KijkoError> {
  const seconds = Number(response.headers.get("Retry-After") || NaN);
  const retryAfter = Number.isFinite(seconds) ? seconds : undefined;
  const problem = (await response.json().catch(() => null)) as Partial<Problem> | null;
  return new KijkoError({
    code: problem?.code ?? `HTTP_${response.status}`,
    message: problem?.message ?? `The server answered ${response.status}. Try again.`,
    status: response.status,
    field: problem?.field,
    details: problem?.details,
    requestId: problem?.requestId ?? response.headers.get("X-Request-ID") ?? undefined,
    retryAfter,
  });
}
