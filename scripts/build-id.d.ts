export function writeBuild(root: string, runtime: { readonly version: string; readonly arch: string }): void;
