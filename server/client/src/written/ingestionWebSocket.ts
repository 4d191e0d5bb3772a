import { at } from "../core/call.js";
import { type Hello, LiveSocket, type SocketStatus } from "../core/socket.js";
import type { KijkoError } from "../core/error.js";
import type { Schemas } from "../core/types.js";
import { Project } from "../dates.js";

type Project = Schemas["Project"];

export type IngestionPhase = "repository_fetch" | "parsing" | "chunking" | "optimization" | "indexing";

export interface IngestionMetrics {
  filesProcessed: number;
  totalFiles: number;
  tokensProcessed: number;
  bytesProcessed: number;
  chunksCreated: number;
  errorsEncountered: number;
}

export interface PhaseStarted {
  projectId: string;
  phase: IngestionPhase;
  message: string;
  startTime: string;
  totalPhases: number;
  currentPhaseIndex: number;
}

export interface ProgressUpdate {
  projectId: string;
  phase: IngestionPhase;
  progressPercent: number;
  message: string;
  metrics: IngestionMetrics;
  /** In a snapshot of a run whose completion was told before. */
  status?: "completed";
}

export interface IngestionComplete {
  projectId: string;
  success: boolean;
  totalDurationSeconds: number;
  finalMetrics: IngestionMetrics;
  project: Project;
}

export interface IngestionFailed {
  projectId: string;
  phase: IngestionPhase;
  errorCode: string;
  errorMessage: string;
  recoverable: boolean;
  retryCount: number;
  maxRetries?: number;
  failedItems?: string[];
}

export interface PhaseData {
  projectId: string;
  phase: IngestionPhase;
  detail: Record<string, unknown>;
  sidebar: Record<string, unknown>;
}

/** The events of one project's ingestion, by name. */
export interface IngestionEvents {
  phase_started: PhaseStarted;
  progress_update: ProgressUpdate;
  phase_data: PhaseData;
  ingestion_complete: IngestionComplete;
  error: IngestionFailed;
  /** Events were lost that cannot be replayed; the state follows. */
  resync_required: { reason: string; rooms: string[]; lastEventId: string };
}

export interface IngestionHandlers {
  onPhase?: (data: PhaseStarted) => void;
  onProgress?: (data: ProgressUpdate) => void;
  onComplete?: (data: IngestionComplete) => void;
  onError?: (data: IngestionFailed) => void;
  onStatus?: (status: SocketStatus, reason?: KijkoError) => void;
}

export type IngestionSocket = LiveSocket<IngestionEvents>;

/** open makes the socket of a project's ingestion. It rests after the completion, and lives on after an error: the run may be recovered. */
export function open(projectId: string): IngestionSocket {
  return new LiveSocket<IngestionEvents>({
    path: `/projects/${at(projectId)}/ws`,
    dates: { ingestion_complete: { project: Project } },
    ends: ({ name, data }) => name === "ingestion_complete" || (name === "progress_update" && (data as ProgressUpdate).status === "completed"),
  });
}

/** connect opens the socket of a project's ingestion, and resolves on the server's `hello`. */
export async function connect(projectId: string, handlers: IngestionHandlers = {}): Promise<IngestionSocket & { hello: Hello }> {
  const socket = open(projectId);
  socket.on("phase_started", (event) => handlers.onPhase?.(event.data));
  socket.on("progress_update", (event) => handlers.onProgress?.(event.data));
  socket.on("ingestion_complete", (event) => handlers.onComplete?.(event.data));
  socket.on("error", (event) => handlers.onError?.(event.data));
  if (handlers.onStatus) {
    socket.onStatus(handlers.onStatus);
  }
  return Object.assign(socket, { hello: await socket.connect() });
}
