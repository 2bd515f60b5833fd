/** Hoptrail in the browser: embeddings and multi-hop questions, over fetch alone. */

// ---------------------------------------------------------------- errors

/**
 * What went wrong. An abort is none: it rejects with the signal's own reason.
 *
 * `type` is the server's (`no_backend`, `too_many_runs`, `run_busy`, `unprocessable_content`, …)
 * or one of this module's: `unreachable`, `not_hoptrail`, `http_error`, `connection_lost`,
 * `run_cancelled`, `plan_proposed`, `space_mismatch`.
 */
export class HoptrailError extends Error {
  constructor(type: string, message: string, details?: HoptrailErrorDetails);
  readonly name: "HoptrailError";
  readonly type: string;
  /** What to do about it, where that is known. */
  readonly fix: string | null;
  /** Seconds after which to ask again, where that is known. */
  readonly retryAfter: number | null;
  /** The HTTP status; null when there was none, or the run failed after it had begun. */
  readonly status: number | null;
}

export interface HoptrailErrorDetails {
  fix?: string | null;
  retryAfter?: number | null;
  status?: number | null;
  cause?: unknown;
}

// ---------------------------------------------------------------- embeddings

export interface EmbeddingOptions {
  /** A model of Hugging Face's, in place of the first embedder of the server's that is up. */
  model?: string;
  signal?: AbortSignal;
  /** How long the server may take before it counts as away; 30 000 by default. */
  timeoutMs?: number;
  /**
   * Whether to hash here when the server has no embedder or is away. By default it is done,
   * except with a `model`: vectors of another space would not be what was asked for.
   */
  fallback?: boolean;
}

/** Where vectors come from. Only vectors of one `space` may be compared. */
export interface Provenance {
  dimensions: number;
  /** The model; `hash` when no model did it. */
  model: string;
  /** `huggingface`, `ollama`, `local`, `hash` or `external`. */
  backend: string;
  /** The id of the embedding space. */
  space: string;
  /** Whether it was another than Hugging Face. */
  fallback: boolean;
  /** Why the vectors were made in this module; null when the server made them. */
  reason: string | null;
}

export interface Embedding extends Provenance {
  /** A unit vector. */
  embedding: number[];
}

export interface Embeddings extends Provenance {
  /** One unit vector per text, in their order; all of one space. */
  embeddings: number[][];
}

/** A vector that says which space it is in: an `Embedding`, or a row of `Embeddings`. */
export interface PlacedVector {
  embedding: ArrayLike<number>;
  space: string;
  dimensions: number;
}

/** Gives the unit vector of a text: the server's, or the same hash embedding as Python's. */
export function generateHuggingFaceEmbedding(
  text: string,
  options?: EmbeddingOptions,
): Promise<Embedding>;

/** Gives one unit vector per text, all of one space. */
export function generateHuggingFaceEmbeddings(
  texts: readonly string[],
  options?: EmbeddingOptions,
): Promise<Embeddings>;

/** Gives the hash embedding of a text without asking anybody. */
export function hashEmbedding(text: string): Embedding;

/** The space of `hashEmbedding`, and of a server's vectors whose backend is `hash`. */
export const HASH_SPACE: string;

/**
 * Says whether two vectors, or batches of them, may be compared. It goes by the spaces' ids:
 * one model behind two backends has two.
 */
export function sameSpace(
  one: Pick<PlacedVector, "space" | "dimensions">,
  other: Pick<PlacedVector, "space" | "dimensions">,
): boolean;

/** Gives the cosine of two vectors; throws `HoptrailError` (`space_mismatch`) across spaces. */
export function cosine(one: PlacedVector, other: PlacedVector): number;

// ---------------------------------------------------------------- questions

export interface AskOptions {
  /** Is told of everything that happens, each once and in order. What it throws ends the run. */
  onEvent?: (event: HoptrailEvent) => void;
  /** Stops the run, and every call it is making. */
  signal?: AbortSignal;
  /** Whether to be told while it happens; by default so. Without, there are no events. */
  stream?: boolean;
  /** An earlier run of this question that is to be finished. */
  runId?: string;
  /** `multi-hop` plans all steps first, `iterative` chooses each from what was found. */
  graph?: "multi-hop" | "iterative";
  /** How long a connection may be silent before it counts as lost; 30 000 by default. */
  idleMs?: number;
  /**
   * How many connections in a row may bring nothing new before it is given up; 5 by default.
   * With 0 the run ends with its connection; otherwise it goes on without, and is stopped when
   * it is given up, aborted, or its page is left.
   */
  reconnects?: number;
}

/** Gives the answer of a question that no single passage answers. */
export function askMultiHop(question: string, options?: AskOptions): Promise<Answer>;

export interface Answer {
  run_id: string;
  /** The run it was forked from. */
  parent_run_id: string | null;
  /** What it has otherwise than its parent. */
  change: Change | null;
  question: string;
  /** The text; it cites as `[1]`, which is `citations[0]`. */
  answer: string;
  /** The bare answer; empty when abstained. */
  short_answer: string;
  /** The documents do not say. */
  abstained: boolean;
  /** No language model stood behind some of it. */
  degraded: boolean;
  stop_reason: string;
  citations: Citation[];
  steps: Step[];
  usage: Usage;
  warnings: string[];
}

/** What a fork of a run has otherwise: a step's answer or question, a model, or passages. */
export interface Change {
  step: number | null;
  answer: string | null;
  question: string | null;
  model: string | null;
  pinned: string[];
  banned: string[];
}

export interface Citation {
  passage_id: string;
  source: string;
  title: string;
  quote: string;
  step: number | null;
}

export interface Step {
  id: number;
  question: string;
  /** The question as it was put, with earlier answers filled in. */
  asked: string;
  depends_on: number[];
  status: "waiting" | "running" | "answered" | "abstained" | "failed";
  /** The run it was kept from, or empty. */
  from_run: string;
  /** Its answer is somebody's change, not a model's. */
  given: boolean;
  answer: string;
  abstained: boolean;
  backend: string;
  model: string | null;
  ms: number;
  retrieval_mode: string;
  embedding_space: string | null;
  evidence: StepEvidence[];
  context_steps: ContextStep[];
  attempts: Attempt[];
  tools: Pick<ToolUse, "tool" | "arguments" | "output" | "passage_id" | "error" | "ms">[];
  warnings: string[];
}

export interface StepEvidence {
  passage_id: string;
  source: string;
  title: string;
  rank: number;
  score: number;
  cited: boolean;
}

export interface ContextStep {
  id: number;
  similarity: number | null;
  reason: string;
}

export interface Attempt {
  backend: string;
  model: string | null;
  outcome: string;
  reason: string;
  ms: number;
}

export interface Usage {
  llm_calls: number;
  input_tokens: number;
  output_tokens: number;
  wall_ms: number;
}

/** What happens in a run; a server that is newer than this file may tell more. */
export type HoptrailEvent =
  | { type: "RUN_STARTED"; run_id: string; question: string; resumed: boolean }
  | { type: "STEP_PLANNED"; id: number; question: string; depends_on: number[]; round: number }
  | { type: "PLAN_RESTARTED"; why: string }
  | { type: "PLAN_FINISHED"; repairs: string[]; source: string }
  | { type: "PLAN_PROPOSED"; run_id: string; questions: string[] }
  | { type: "STEP_STARTED"; id: number; asked: string }
  | { type: "TOOL_CALL_RESULT"; step: number; use: ToolUse }
  | { type: "STEP_FINISHED"; step: Step }
  /** A piece of the answer. */
  | { type: "TEXT_MESSAGE_CONTENT"; delta: string }
  /** The answer text sent so far is void: drop it. */
  | { type: "TEXT_MESSAGE_RESTARTED"; why: string }
  | { type: "RUN_FINISHED"; status: string; answer: Answer }
  | { type: "RUN_ERROR"; error: Problem };

export interface ToolUse {
  tool: string;
  arguments: Record<string, unknown>;
  output: string;
  passage_id: string;
  started_ms: number;
  ms: number;
  from_journal: boolean;
  error: string;
}

export interface Problem {
  type: string;
  message: string;
  fix: string | null;
  retry_after: number | null;
  code: null;
  param: null;
}

// ---------------------------------------------------------------- another server

export interface ClientOptions {
  /** The server's address; by default the one this module, or else the page, came from. */
  baseUrl?: string | URL | null;
  /** The server's HOPTRAIL_API_TOKEN. Whoever sees the page can read it. */
  token?: string | null;
  /** Takes the place of the global `fetch`. */
  fetch?: typeof fetch | null;
}

export interface HoptrailClient {
  readonly baseUrl: string | null;
  readonly generateHuggingFaceEmbedding: typeof generateHuggingFaceEmbedding;
  readonly generateHuggingFaceEmbeddings: typeof generateHuggingFaceEmbeddings;
  readonly askMultiHop: typeof askMultiHop;
}

/** Gives the same functions for another server. */
export function createClient(options?: ClientOptions): HoptrailClient;
