export { totalOf, type Total } from "./core/call.js";
export { type Config, configure, type TokenStore } from "./core/config.js";
export { KijkoError, type Problem } from "./core/error.js";
export { type Hello, LiveSocket, type SocketEvent, type SocketStatus } from "./core/socket.js";
export { accessToken, dropTokens, isSignedIn, keepTokens } from "./core/tokens.js";
export type { Answer, Body, Input, OperationId, Options, Query, Schemas } from "./core/types.js";
export * from "./modules.js";
export { version } from "./version.js";
// The types of the API under the frontend's names: Project, Skill, ... Where a name stands above, this package's own wins.
export type * from "./schema.js";
