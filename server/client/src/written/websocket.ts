import { type Hello, LiveSocket } from "../core/socket.js";
import type { Plan } from "../core/revive.js";
import type { Schemas } from "../core/types.js";
import { ActivityEvent, ChangelogEntry, CompressionMetrics, IngestionEntry, Notification, Project } from "../dates.js";
import type { IngestionComplete, IngestionFailed, PhaseStarted, ProgressUpdate } from "./ingestionWebSocket.js";

type Resync = { reason: string; rooms: string[]; lastEventId: string };

/** The events of one context, by name. */
export interface ContextEvents {
  "activity:new": Schemas["ActivityEvent"] & { contextId: string };
  "user:status": { userId: string; status: "online" | "offline"; lastActive: Date; contextId: string };
  "enrichment:progress": {
    type: "knowledgeGraph" | "languageServer" | "chromaCode";
    progress: number;
    status: "pending" | "processing" | "completed" | "error";
    contextId: string;
    message?: string;
  };
  "ingestion:complete": { contextId: string; projectId?: string; success: boolean; entry: Schemas["ChangelogEntry"] };
  "ingestion:added": { contextId: string; entry: Schemas["IngestionEntry"]; metrics: Schemas["CompressionMetrics"] };
  "ingestion:updated": { contextId: string; ingestionNumber: number; field: string; value: unknown };
  "ingestion:deleted": { contextId: string; ingestionNumber: number; metrics: Schemas["CompressionMetrics"] };
  resync_required: Resync;
}

/** The events of the general socket, by name. Its rooms are the person's and the organization's, and those that it joins. */
export interface PersonEvents {
  notification: Schemas["Notification"];
  notification_updated: { id: string; isRead: boolean; unreadCount: number };
  notifications_read: { unreadCount: number; count: number; readAt: Date };
  notification_deleted: { id: string; unreadCount: number };
  notification_preferences_updated: Schemas["NotificationPreferences"];
  execution_update: {
    executionId: string;
    skillId?: string;
    skillName?: string;
    executionType: "manual" | "habit" | "reflex" | "api";
    referenceId?: string;
    status: "pending" | "running" | "completed" | "failed" | "cancelled";
    tokensUsed?: number;
    durationMs?: number;
    costCents?: number;
    errorMessage?: string;
    errorCode?: string;
    executedAt: Date;
    completedAt?: Date;
  };
  execution_output: { executionId: string; seq: number; chunk: string };
  resource_changed: { resource: string; id: string; operation: "created" | "updated" | "deleted"; changedFields?: string[]; updatedAt: Date };
  "project_user:insert": Schemas["ProjectUser"];
  "project_user:update": Schemas["ProjectUser"];
  "project_user:delete": { id: string; project_id: string; user_id: string };
  phase_started: PhaseStarted;
  progress_update: ProgressUpdate;
  ingestion_complete: IngestionComplete;
  ingestion_error: IngestionFailed;
  resync_required: Resync;
}

export type ContextSocket = LiveSocket<ContextEvents>;
export type PersonSocket = LiveSocket<PersonEvents>;

const contextDates: Record<string, Plan> = {
  "activity:new": ActivityEvent,
  "user:status": { lastActive: 1 },
  "ingestion:complete": { entry: ChangelogEntry },
  "ingestion:added": { entry: IngestionEntry, metrics: CompressionMetrics },
  "ingestion:deleted": { metrics: CompressionMetrics },
};

const personDates: Record<string, Plan> = {
  notification: Notification,
  notifications_read: { readAt: 1 },
  execution_update: { executedAt: 1, completedAt: 1 },
  resource_changed: { updatedAt: 1 },
  ingestion_complete: { project: Project },
};

/** open makes the socket of a context. */
export const open = (contextId: string): ContextSocket => new LiveSocket<ContextEvents>({ path: "/ws", query: { contextId }, dates: contextDates });

/** connect opens the socket of a context, and resolves on the server's `hello`. */
export async function connect(contextId: string): Promise<ContextSocket & { hello: Hello }> {
  const socket = open(contextId);
  return Object.assign(socket, { hello: await socket.connect() });
}

/** openGeneral makes the socket of the signed-in person: notifications, executions, and the rooms that are joined. */
export const openGeneral = (): PersonSocket => new LiveSocket<PersonEvents>({ path: "/ws", dates: personDates });

export interface ProjectUserCallbacks {
  onInsert?: (user: Schemas["ProjectUser"]) => void;
  onUpdate?: (user: Schemas["ProjectUser"]) => void;
  onDelete?: (user: { id: string }) => void;
}

/** subscribeToProjectUsers tells about changes of the people of a project. It returns the function that ends this. */
export function subscribeToProjectUsers(projectId: string, callbacks: ProjectUserCallbacks): () => void {
  const socket = openGeneral();
  socket.on("project_user:insert", (event) => callbacks.onInsert?.(event.data));
  socket.on("project_user:update", (event) => callbacks.onUpdate?.(event.data));
  socket.on("project_user:delete", (event) => callbacks.onDelete?.(event.data));
  socket.join(`project:${projectId}`);
  void socket.connect().catch(() => undefined);
  return () => socket.disconnect();
}
