import { send } from "../core/call.js";
import type { Answer, Options } from "../core/types.js";

/** Store files, of a project or staged for 24 hours. A folder's files keep their paths. `POST /files/upload` */
export function uploadFiles(files: readonly File[], projectId?: string, options?: Options): Promise<Answer<"uploadFiles">> {
  const form = new FormData();
  if (projectId !== undefined) {
    form.append("projectId", projectId);
  }
  for (const file of files) {
    form.append("files", file);
    form.append("paths", (file as { webkitRelativePath?: string }).webkitRelativePath || file.name);
  }
  return send("POST", "/files/upload", { body: form, options });
}
