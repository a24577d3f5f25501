/**
 * Coverage that the code counts itself. Loaded before the daemon's sources, this adds a check to every branch of them, of a byte
 * that says whether the branch ran before. V8's own coverage costs half of the speed, and milliseconds for every reading. This
 * costs nothing measurable, can be read after every input, and is deterministic.
 */
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { installRoot } from '../../posix/root.ts';

/** Many more than there are. */
const MAX_BRANCHES = 65_536;
const MARK = '__branch';
const NEW = '__newBranch';

interface Counters {
  [MARK]: Uint8Array;
  [NEW](branch: number): void;
  /** Branches that ran. */
  branchesCovered: number;
}

const counters = globalThis as unknown as Counters;
counters[MARK] = new Uint8Array(MAX_BRANCHES);
counters.branchesCovered = 0;
counters[NEW] = (branch) => {
  counters[MARK][branch] = 1;
  counters.branchesCovered++;
};
let branches = 0;

/** Adds to every branch of a source the check of its byte. Node.js strips the types afterwards. */
export function instrument(source: string, fileName: string): string {
  const file = ts.createSourceFile(fileName, source, ts.ScriptTarget.ESNext, true, ts.ScriptKind.TS);
  const insertions: { at: number; text: string }[] = [];
  const check = (): string => {
    const branch = branches++ % MAX_BRANCHES;
    return `(${MARK}[${branch}]||${NEW}(${branch}))`;
  };
  const expression = (node: ts.Expression): void => {
    insertions.push({ at: node.getStart(file), text: `(${check()},(` }, { at: node.end, text: '))' });
  };
  const statement = (node: ts.Statement): void => {
    if (ts.isBlock(node)) insertions.push({ at: node.getStart(file) + 1, text: `${check()};` });
    else insertions.push({ at: node.getStart(file), text: `{${check()};` }, { at: node.end, text: '}' });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isFunctionLike(node)) {
      const { body } = node as { body?: ts.Block | ts.Expression };
      if (body !== undefined && ts.isBlock(body)) statement(body);
      else if (body !== undefined && ts.isArrowFunction(node)) expression(body);
    } else if (ts.isIfStatement(node)) {
      statement(node.thenStatement);
      if (node.elseStatement !== undefined && !ts.isIfStatement(node.elseStatement)) statement(node.elseStatement);
    } else if (ts.isIterationStatement(node, false)) statement(node.statement);
    else if (ts.isCatchClause(node)) statement(node.block);
    else if (ts.isCaseOrDefaultClause(node)) {
      const [first] = node.statements;
      if (first !== undefined) insertions.push({ at: first.getStart(file), text: `${check()};` });
    } else if (ts.isConditionalExpression(node)) {
      expression(node.whenTrue);
      expression(node.whenFalse);
    } else if (ts.isBinaryExpression(node)) {
      const { kind } = node.operatorToken;
      const { AmpersandAmpersandToken, BarBarToken, QuestionQuestionToken } = ts.SyntaxKind;
      if (kind === AmpersandAmpersandToken || kind === BarBarToken || kind === QuestionQuestionToken) {
        expression(node.right);
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  // From the end, so that offsets stay valid. At one offset, beginnings stand in the order of their discovery, ends in reverse.
  let text = source;
  const ordered = insertions.map((one, order) => ({ ...one, order, closes: /^[)}]/.test(one.text) }));
  ordered.sort(
    (a, b) => b.at - a.at || Number(a.closes) - Number(b.closes) || (a.closes ? a.order - b.order : b.order - a.order),
  );
  for (const { at, text: added } of ordered) text = text.slice(0, at) + added + text.slice(at);
  return text;
}

/**
 * The sources to count: the daemon's. Not its hash table: which entries share a chain of it is decided by the inodes that the file
 * system happens to give, and one seed must always do the same.
 */
const COUNTED = /^(xdr|src\/(?!client\/|lab\/|swap\/|lockspace\/table\.ts|programs\/(?!virtlockd\/)))/;

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    if (!url.startsWith('file:') || loaded.format !== 'module-typescript' || loaded.source === undefined) return loaded;
    const path = fileURLToPath(url);
    if (!path.startsWith(`${installRoot}/`) || !COUNTED.test(path.slice(installRoot.length + 1))) return loaded;
    const source =
      typeof loaded.source === 'string' ? loaded.source : Buffer.from(loaded.source as Uint8Array).toString();
    return { ...loaded, source: instrument(source, path) };
  },
});
