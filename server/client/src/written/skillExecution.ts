// The frontend has three names for a run.
export { executeSkill as executeAndLogSkill, executeSkill as testSkill } from "../services/skillExecution.js";
