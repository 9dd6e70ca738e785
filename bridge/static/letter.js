// The author's page: the letter has arrived, so its draft is no longer needed.

import { forgetSent } from "./drafts.js";

forgetSent();
