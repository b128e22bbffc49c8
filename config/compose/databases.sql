-- Beside `shop`, the database for trying out: where the registry keeps its schemas.
CREATE DATABASE registry;
