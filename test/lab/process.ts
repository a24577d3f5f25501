export * from '../../src/conformance/lab/process.ts';
