/** Names the functions of a bundle, the same names as long as nobody renames or moves them. */
import { readFileSync } from 'node:fs';
import ts from 'typescript';

export interface BundleFunction {
  /** The names of all functions and classes around it and its own, with dots between. One without a name has an empty one. */
  readonly name: string;
  /** Offsets into the wrapped bundle. */
  readonly start: number;
  readonly body: number;
  readonly end: number;
}

/** A bundle as start.cjs runs it. */
export function wrap(file: string): string {
  return `(function (exports, require, module, __filename, __dirname, LOADED) {${readFileSync(file, 'utf8')}\n})`;
}

/** @param source a wrapped bundle */
export function functionsOf(source: string): BundleFunction[] {
  const file = ts.createSourceFile('bundle.cjs', source, ts.ScriptTarget.Latest, true, ts.ScriptKind.JS);
  const found: BundleFunction[] = [];
  const uses = new Map<string, number>();
  const visit = (node: ts.Node, around: string): void => {
    let inside = around;
    const body = bodyOf(node);
    if (body !== undefined || ts.isClassLike(node)) {
      const plain = `${around}${ownName(node)}`;
      const use = (uses.get(plain) ?? 0) + 1;
      uses.set(plain, use);
      const name = use === 1 ? plain : `${plain}~${use}`;
      if (body !== undefined) found.push({ name, start: node.getStart(), body: body.getStart(), end: node.end });
      inside = `${name}.`;
    }
    ts.forEachChild(node, (child) => {
      visit(child, inside);
    });
  };
  // Not the wrapper itself.
  const [statement] = file.statements;
  const [wrapper] = statement?.getChildren() ?? [];
  if (wrapper === undefined || !ts.isParenthesizedExpression(wrapper)) throw new Error('this is no wrapped bundle');
  ts.forEachChild(wrapper.expression, (child) => {
    visit(child, '');
  });
  return found;
}

function bodyOf(node: ts.Node): ts.Node | undefined {
  return ts.isFunctionLike(node) && 'body' in node ? node.body : undefined;
}

/** Its name, or that of the variable or property that it is assigned to. */
function ownName(node: ts.Node): string {
  if (ts.isConstructorDeclaration(node)) return 'constructor';
  const named = [node, node.parent].map((one) => ('name' in one ? (one.name as ts.Node | undefined) : undefined));
  const text = named.find((name) => name !== undefined && !ts.isComputedPropertyName(name))?.getText() ?? '';
  // esbuild breaks long lines within strings, too.
  return text.replaceAll('\\\n', '');
}
