// Scores of search results. Many pages contain the same words: pages that answer questions come before pages that list everything.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: {0: 15, 1: 5, 2: -5},
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score: ([page, title, anchor, description, score]) => {
    const [folder] = page.split("/");
    const bonus = {tutorial: 4, "how-to": 4, distributions: 4, reference: 3, explanation: 2, api: 1, behaviour: -4, scripts: -4};
    return score + (bonus[folder] ?? 2);
  },
};
