export { downloadOriginal as downloadOriginalFiles } from "../services/compressionService.js";
