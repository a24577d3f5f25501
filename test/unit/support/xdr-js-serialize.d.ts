/** The part of xdr-js-serialize that the tests use; it ships no types. */
declare module 'xdr-js-serialize' {
  interface XdrType {
    toXDR(): Buffer;
    fromXDR(bytes: Buffer): this;
  }
  interface VarOpaque extends XdrType {
    value: Buffer;
  }
  interface VarArray extends XdrType {
    values: XdrType[];
  }
  interface Types {
    UInt: new (value: number) => XdrType;
    Int: new (value: number) => XdrType;
    UHyper: new (value: string) => XdrType;
    Hyper: new (value: string) => XdrType;
    Double: new (value: number) => XdrType;
    Bool: new (value: boolean) => XdrType;
    Void: new () => XdrType;
    FixedOpaque: new (length: number) => VarOpaque;
    VarOpaque: new (maxLength: number) => VarOpaque;
    VarArray: new (maxLength: number, item: () => XdrType) => VarArray;
    Option: new (type: XdrType, value: XdrType | null) => XdrType;
    Struct: new (keys: string[], values: XdrType[]) => XdrType;
  }
  const module: { default: Types };
  export type { VarArray, VarOpaque, XdrType };
  export default module;
}
